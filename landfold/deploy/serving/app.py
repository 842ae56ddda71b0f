"""The HTTP API of a model folder: class probabilities for windows and scenes, within limits."""

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from landfold import __version__
from landfold.core.errors import LandfoldError
from landfold.deploy.bundle import Bundle
from landfold.deploy.bundlecard import BundleCard
from landfold.deploy.serving import ServingLimits
from landfold.deploy.serving.mlflow_model import example_request
from landfold.deploy.serving.scoring import MODES, RequestError, answer, answer_shape
from landfold.geo.bands import STANDARD_NAMES

READ_S = 60.0
"""Time for the body of a request: one that is sent byte by byte would be held in memory for as long."""

HELD = 4
"""Bodies of the greatest length that are held at once, most of them waiting; one more is answered 503."""

AT_ONCE = 2
"""Requests that are worked on side by side: torch uses all cores for one, and JSON takes some ten times its length."""


class RequestQueue:
    """Reads the bodies of requests, and works on few at once; a refusal is an HTTPException."""

    def __init__(self, work: Callable[[bytearray], bytes], max_bytes: int, max_s: float) -> None:
        """Take the function that answers a body, its greatest length, and the time for the answer, with the wait."""
        self.work, self.max_bytes, self.max_s = work, max_bytes, max_s
        self.held_bytes = 0
        self.pool = ThreadPoolExecutor(AT_ONCE)

    async def answer(self, request: Request) -> bytes:
        """The body of the answer to a request."""
        body = bytearray()
        try:
            await self._read(request, body)
            async with asyncio.timeout(self.max_s):  # then a job that waits is cancelled; one that runs keeps its place
                return await asyncio.wrap_future(self.pool.submit(self.work, body))
        except TimeoutError:
            raise HTTPException(504, f"no answer within {self.max_s:g} s; send fewer windows") from None
        finally:
            self.held_bytes -= len(body)

    async def _read(self, request: Request, body: bytearray) -> None:
        """Fill the body, and refuse it as soon as it is of another kind, too long, too slow, or one too many."""
        kind, length = request.headers.get("content-type", "nothing"), request.headers.get("content-length", "0")
        too_long = HTTPException(413, f"the body is too long; at most {self.max_bytes} bytes are read")
        if not length.isdecimal() or int(length) > self.max_bytes:
            raise too_long
        if kind.partition(";")[0].strip().lower() != "application/json":
            raise HTTPException(415, f"Content-Type is {kind[:100]}; send application/json")
        if request.headers.get("content-encoding", "identity").lower() != "identity":
            raise HTTPException(415, "the body is compressed; send it as it is, without Content-Encoding")
        try:
            async with asyncio.timeout(READ_S):
                async for part in request.stream():
                    if len(body) + len(part) > self.max_bytes:
                        raise too_long
                    if self.held_bytes + len(part) > HELD * self.max_bytes:
                        raise HTTPException(503, "too many requests at once; send this one again later")
                    body += part
                    self.held_bytes += len(part)
        except TimeoutError:
            raise HTTPException(408, f"the body was not whole after {READ_S:g} s") from None
        except ClientDisconnect:
            raise HTTPException(400, "the connection was closed before the body was whole") from None


def create_app(bundle: Bundle, limits: ServingLimits, *, max_bytes: int, max_s: float) -> FastAPI:
    """The API of a model folder, as an ASGI application.

    Args:
        bundle: the model.
        limits: the largest request.
        max_bytes: greatest length of a request's body.
        max_s: time for an answer.
    """
    app = FastAPI(title=f"Landfold: {bundle.card.name}", version=__version__, docs_url=None, redoc_url=None)

    def work(body: bytearray) -> bytes:
        return json.dumps({"predictions": answer(bundle, *parse_request(body), limits).tolist()}).encode()

    queue = RequestQueue(work, max_bytes, max_s)

    for error in (HTTPException, LandfoldError, Exception):
        app.add_exception_handler(error, _refuse)

    @app.get("/health")
    @app.get("/ping", include_in_schema=False)
    async def health() -> dict[str, str]:
        """Whether the server is up."""
        return {"status": "ok"}

    @app.get("/metadata")
    async def metadata() -> dict[str, Any]:
        """Classes, bands, units, window size, calibration and accuracy of the model, and the limits of a request."""
        return _describe(bundle) | {"limits": limits.model_dump() | {"max_bytes": max_bytes, "max_s": max_s}}

    shapes = _answer_shapes(bundle.card)
    arrays, params = example_request(bundle.card)
    example = {"inputs": {name: array[:1].tolist() for name, array in arrays.items()}, "params": params}
    content = {"application/json": {"schema": {"type": "object"}, "example": example}}

    told = "; ".join(f"mode {mode}: predictions ({', '.join(map(str, shape))})" for mode, shape in shapes.items())

    @app.post(
        "/predict",
        openapi_extra={"requestBody": {"required": True, "content": content}},
        responses={200: {"description": told}},
    )
    @app.post("/invocations", include_in_schema=False)
    async def predict(request: Request) -> Response:
        """Class probabilities or prediction sets of windows or scenes; the last axis of the answer are the classes."""
        return Response(await queue.answer(request), media_type="application/json")

    return app


async def _refuse(request: Request, error: Exception) -> JSONResponse:
    """One sentence for a request that is not answered; uvicorn logs what is no refusal."""
    if isinstance(error, HTTPException):
        return JSONResponse({"message": error.detail}, error.status_code, error.headers)
    if isinstance(error, LandfoldError):
        return JSONResponse({"message": str(error)}, 400)
    return JSONResponse({"message": "the server failed at this request; its log has the reason"}, 500)


def _answer_shapes(card: BundleCard) -> dict[str, tuple[Any, ...]]:
    """The shape of the answer in each mode, words for what depends on the request."""
    return {mode: answer_shape(card, mode, ("n", "rows", "columns")) for mode in MODES}


def _describe(bundle: Bundle) -> dict[str, Any]:
    card, accuracy = bundle.card, bundle.card.zoned.get("accuracy")
    own = ("name", "unit", "classes", "channels", "size_px", "core_px", "resolution_m")
    pixels = (card.zoned_pixels or {}).get("accuracy")
    return {
        **{name: getattr(card, name) for name in own},
        "answers": _answer_shapes(card),
        "bands": [
            {"name": band.name, "description": STANDARD_NAMES[band.name], "low": band.low, "high": band.high}
            for band in card.origin.bands
        ],
        "units": "surface reflectance, about 0 to 1; null where there is no data",
        "stride_px": card.export.stride_px,
        "calibration": card.calibration and card.calibration.model_dump(exclude={"folds"}),
        "digest": bundle.digest,
        "accuracy": accuracy and accuracy.model_dump() | {"level": 0.95, "of": "patches of held-out zones"},
        "pixel_accuracy": pixels and pixels.model_dump() | {"level": 0.95, "of": "labelled pixels of held-out zones"},
    }


def parse_request(body: bytearray) -> tuple[np.ndarray, dict[str, Any]]:
    """Reflectance, float32 of any shape, and parameters of a request, in one of the forms that MLflow's server takes.

    Raises:
        RequestError: the body is no JSON, or of another form.
    """
    try:
        content = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise RequestError(f"the body is no JSON that can be read: {_short(error)}") from None
    match content:
        case {"inputs": values} | {"instances": values}:
            params = content.get("params") or {}
        case _:
            raise RequestError('expected a JSON object such as {"inputs": {"reflectance": [...]}, "params": {...}}')
    if not isinstance(params, dict):
        raise RequestError('params is no object; expected such as {"mode": "scene"}')
    match values:
        case {"reflectance": named}:
            values = named
        case [{"reflectance": _}, *_]:
            values = [row.get("reflectance") if isinstance(row, dict) else row for row in values]
        case dict():
            raise RequestError("inputs has no reflectance")
    try:
        with np.errstate(over="ignore"):  # numbers beyond float32 are infinite, which is refused
            return np.array(values, dtype=np.float32), params
    except (ValueError, TypeError, OverflowError) as error:
        raise RequestError(f"reflectance is no array of numbers: {_short(error)}") from None


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
