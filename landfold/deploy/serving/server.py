"""`landfold serve`: its socket, and uvicorn with limits of connections."""

import asyncio
import socket

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from landfold.core.errors import LandfoldError

HEAD_S = 15.0
"""Time for the head of a request, from the connection or the last answer."""

SEND_S = 120.0
"""Time for a client to take its answer."""

CONNECTIONS = 512
"""Open connections; requests on more are answered 503."""


class ServerError(LandfoldError):
    """A server that cannot start."""


class LimitedProtocol(H11Protocol):
    """uvicorn's protocol, which closes a connection if the head of a request is not whole in time.

    uvicorn alone closes connections on which nothing arrives, but waits for the rest of a head for ever.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Wait for the first request."""
        super().connection_made(transport)
        self.loop.call_later(HEAD_S, self._close_without_request, None)

    def on_response_complete(self) -> None:
        """Wait for the next request, unless it has arrived already."""
        answered = self.cycle
        super().on_response_complete()
        self.loop.call_later(HEAD_S, self._close_without_request, answered)

    def _close_without_request(self, answered: RequestResponseCycle | None) -> None:
        if self in self.connections and self.cycle is answered:
            self.transport.close()  # when all is sent
            self.loop.call_later(SEND_S, self.transport.abort)


def bound(host: str, port: int) -> socket.socket:
    """A socket for the server, taken before a model is loaded: that takes seconds, which a taken port would waste.

    Raises:
        ServerError: nothing can listen there.
    """
    if not 0 < port < 2**16:
        raise ServerError(f"--port {port}: expected 1 to 65535")
    place = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port that was left a moment ago is free
        place.bind((host, port))
    except OSError as error:
        place.close()
        where = f"{host}:{port}: nothing can listen there ({error.strerror})"
        raise ServerError(f"{where}; give an address of this machine as --host, or another --port") from None
    return place


def make_server(app: FastAPI) -> uvicorn.Server:
    """A server of an application; ``run(sockets=[...])`` answers until the process is stopped."""
    limited = {"http": LimitedProtocol, "ws": "none", "limit_concurrency": CONNECTIONS}
    return uvicorn.Server(uvicorn.Config(app, lifespan="off", log_level="warning", **limited))
