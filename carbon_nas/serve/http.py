"""The HTTP server in the daemon's own loop: `/metrics` and `/healthz`, read-only, on loopback."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

Health = dict[str, object]
"""`ok` (bool) and whatever explains it."""


class Server(uvicorn.Server):
    """uvicorn without its hands on the process's signals: those are the daemon's."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield


def application(registry: CollectorRegistry, health: Callable[[], Health]) -> Starlette:
    """Give the application; `health` is asked at each request, and answered with 503 when not ok."""

    async def healthz(_request: Request) -> JSONResponse:
        found = health()
        return JSONResponse(found, status_code=200 if found["ok"] else 503)

    async def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"content-type": content_type})

    return Starlette(routes=[Route("/healthz", healthz), Route("/metrics", metrics)])


def bind(listen: str) -> socket.socket:
    """Take the address `host:port`; port 0 is a free one. Clients may come, and wait until they are served.

    Raises:
        OSError: the address is taken, or not this machine's.
    """
    host, _, port = listen.rpartition(":")
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    return socket.create_server((host.strip("[]"), int(port)), family=family)


class HttpService:
    """Serves `app` on `listener` between `start` and `stop`, which closes it."""

    def __init__(self, app: Starlette, listener: socket.socket) -> None:
        self._listener = listener
        self._server = Server(
            uvicorn.Config(
                app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=3
            )
        )
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Serve."""
        self._task = asyncio.create_task(self._server.serve(sockets=[self._listener]))

    async def stop(self) -> None:
        """Answer what was asked, then close."""
        if self._task is not None:
            self._server.should_exit = True
            await self._task
