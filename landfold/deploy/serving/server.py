"""`landfold serve`: MLflow's scoring server on loopback, behind what it lacks: a limit of the body, and short refusals.

MLflow's server reads a body whole, however long, and puts the input before the reason when it refuses one.
"""

import json
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from landfold.deploy.serving.package import quiet_mlflow, save
from landfold.deploy.serving.scoring import LIMITS, ServingLimits
from landfold.errors import LandfoldError

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

MAX_BYTES = 256 * 2**20
"""Of a request's body. MLflow's JSON takes some ten times that in memory: a number of 20 bytes is an object."""

MOST_CHARACTERS = 500
"""Of a refusal."""


class ServerError(LandfoldError):
    """A server that cannot start."""


class Guard:
    """An ASGI application before another: bodies over ``max_bytes`` are answered 413, refusals are one sentence."""

    def __init__(self, app: App, max_bytes: int = MAX_BYTES) -> None:
        """Wrap ``app``."""
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        length = headers.get(b"content-length", b"0")
        too_long = not length.isdigit() or int(length) > self.max_bytes
        body = None if too_long else await self._read(receive)
        if body is None:
            await _refuse(send, 413, f"the body is too long; at most {self.max_bytes} bytes are read")
            return
        if scope["method"] == "POST" and b"content-type" not in headers:
            await _refuse(send, 415, "no Content-Type; send application/json")
            return
        await self._forward(scope, body, receive, send)

    async def _read(self, receive: Receive) -> bytes | None:
        """The body; None as soon as it is too long."""
        parts, size, more = [], 0, True
        while more:
            message = await receive()
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            more = message.get("more_body", False)
            if size > self.max_bytes:
                return None
        return b"".join(parts)

    async def _forward(self, scope: Message, body: bytes, receive: Receive, send: Send) -> None:
        """Let the application answer; what it answers with an error is held back and told in short."""
        waiting = [{"type": "http.request", "body": body, "more_body": False}]
        held: list[Message] = []

        async def given() -> Message:
            return waiting.pop() if waiting else await receive()

        async def taken(message: Message) -> None:
            if held or message.get("status", 200) >= 400:
                held.append(message)
            else:
                await send(message)

        try:
            await self.app(scope, given, taken)
        except RecursionError:
            await _refuse(send, 400, "the body is no JSON that can be read: nested too deeply")
            return
        if held:
            text = b"".join(message.get("body", b"") for message in held).decode("utf-8", errors="replace")
            await _refuse(send, held[0]["status"], sentence(text))


def sentence(body: str) -> str:
    """The reason in an answer of MLflow's server, without the input that it repeats and without a stack."""
    try:
        content = json.loads(body)
    except ValueError:
        content = None
    found = content if isinstance(content, dict) else {}
    message = str(found.get("message", found.get("detail", body)))  # FastAPI's own say detail
    reason = message.partition("\nInput:")[0].rpartition("Error: ")[2]  # "Failed to ... '<data>'. Error: <reason>"
    return " ".join(reason.split())[:MOST_CHARACTERS] or "refused"


async def _refuse(send: Send, status: int, message: str) -> None:
    body = json.dumps({"message": message}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def application(model: Path, *, limits: ServingLimits = LIMITS, max_bytes: int = MAX_BYTES) -> App:
    """The guarded server of a model folder, as an ASGI application.

    Raises:
        BundleError: ``model`` is no model folder.
    """
    mlflow = quiet_mlflow()
    from mlflow.pyfunc import scoring_server

    with tempfile.TemporaryDirectory(prefix="landfold-") as folder:  # the networks are in memory afterwards
        save(model, Path(folder) / "model", limits=limits)
        loaded = mlflow.pyfunc.load_model(f"{folder}/model")
    return Guard(scoring_server.init(loaded), max_bytes)


def listen(app: App, host: str, port: int) -> None:
    """Answer requests until the process is stopped.

    Raises:
        ServerError: nothing can listen there.
    """
    import uvicorn

    try:
        uvicorn.run(app, host=host, port=port, log_level="warning")
    except SystemExit:  # uvicorn has told why
        raise ServerError(f"{host}:{port}: nothing can listen there; choose another --port") from None
