"""`landfold serve`: MLflow's scoring server on loopback, behind what it lacks: limits, and short refusals.

MLflow's server reads a body whole, however long, as many at once as are sent, and puts the input before the reason when
it refuses one.
"""

import asyncio
import json
import socket
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from landfold.core.errors import LandfoldError
from landfold.deploy.serving.package import quiet_mlflow, save
from landfold.deploy.serving.scoring import LIMITS, ServingLimits

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

MAX_BYTES = 256 * 2**20
"""Of a request's body. MLflow's JSON takes some ten times that in memory: a number of 20 bytes is an object."""

READ_S = 60.0
"""In which a body must have come: who sends it byte by byte would hold memory for as long as they like."""

HELD = 4
"""Bodies of the greatest length that are held at once, of which most wait; what is beyond is answered 503."""

AT_ONCE = 2
"""Requests that are worked on side by side: one has all cores in torch already, and ten times its body in memory."""

MOST_CHARACTERS = 500
"""Of a refusal."""


class ServerError(LandfoldError):
    """A server that cannot start."""


class _RefusedError(Exception):
    """A request that goes no further: its status and one sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class Guard:
    """An ASGI application before another: what is too long, too slow or no JSON is refused, and in one sentence."""

    def __init__(self, app: App, max_bytes: int = MAX_BYTES, read_s: float = READ_S) -> None:
        """Wrap ``app``."""
        self.app = app
        self.max_bytes = max_bytes
        self.read_s = read_s
        self.held_bytes = 0
        self.at_work = asyncio.Semaphore(AT_ONCE)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if scope["method"] != "POST":
            await self._forward(scope, b"", receive, send)
            return
        body = bytearray()
        try:
            self._check(dict(scope["headers"]))
            await self._read(body, receive)
            async with self.at_work:
                await self._forward(scope, bytes(body), receive, send)
        except _RefusedError as error:
            await _refuse(send, error.status, str(error))
        finally:
            self.held_bytes -= len(body)

    def _check(self, headers: dict[bytes, bytes]) -> None:
        """Refuse by the headers alone. MLflow would take Parquet too, which unpacks to any size."""
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self.max_bytes:
            raise _RefusedError(413, self._too_long)
        kind = headers.get(b"content-type", b"").decode("latin-1")
        if kind.partition(";")[0].strip().lower() != "application/json":
            found = f"Content-Type {kind[:100]}" if kind else "no Content-Type"
            raise _RefusedError(415, f"{found}; send application/json")
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise _RefusedError(415, "the body is compressed; send it as it is, without Content-Encoding")

    async def _read(self, body: bytearray, receive: Receive) -> None:
        """Fill the body, and refuse it as soon as it is too long, too slow, or one too many."""
        more = True
        try:
            async with asyncio.timeout(self.read_s):
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _RefusedError(400, "the connection was closed before the body was whole")
                    part, more = message.get("body", b""), message.get("more_body", False)
                    if len(body) + len(part) > self.max_bytes:
                        raise _RefusedError(413, self._too_long)
                    if self.held_bytes + len(part) > HELD * self.max_bytes:
                        raise _RefusedError(503, "too many requests at once; send this one again later")
                    body += part
                    self.held_bytes += len(part)
        except TimeoutError:
            raise _RefusedError(408, f"the body was not whole after {self.read_s:g} s") from None

    @property
    def _too_long(self) -> str:
        return f"the body is too long; at most {self.max_bytes} bytes are read"

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
        except ValueError as error:  # of a number of thousands of digits: MLflow expects other errors of JSON alone
            await _refuse(send, 400, f"the body is no JSON that can be read: {str(error)[:200]}")
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
    if "UnicodeDecodeError(" in message[:MOST_CHARACTERS]:  # which would show the bytes
        return "the body is no JSON that can be read: it is not UTF-8"
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


def bound(host: str, port: int) -> socket.socket:
    """A socket for `listen`, taken before a model is loaded: that takes seconds, which a taken port would waste.

    Raises:
        ServerError: nothing can listen there.
    """
    if not 0 < port < 2**16:
        raise ServerError(f"--port {port}: expected 1 to 65535")
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, kind)
    except OSError as error:
        raise ServerError(f"--host {host}: {error.strerror}; give a name or an address of this machine") from None
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port that was left a moment ago is free
        found.bind(address)
    except OSError as error:
        found.close()
        raise ServerError(
            f"{host}:{port}: nothing can listen there ({error.strerror}); choose another --port"
        ) from None
    return found


def listen(app: App, place: socket.socket) -> None:
    """Answer requests at a bound socket until the process is stopped."""
    import uvicorn

    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[place])
