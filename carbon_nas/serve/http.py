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


class HttpService:
    """Serves `app` on `listen` (`host:port`) between `start` and `stop`; port 0 takes a free one."""

    def __init__(self, app: Starlette, listen: str) -> None:
        self._app = app
        self._listen = listen
        self._server: Server | None = None
        self._task: asyncio.Task[None] | None = None
        self.address: str | None = None

    async def start(self) -> None:
        """Bind and serve.

        Raises:
            OSError: the address is taken.
        """
        host, _, port = self._listen.rpartition(":")
        family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
        listener = socket.create_server((host.strip("[]"), int(port)), family=family)
        self.address = f"{host}:{listener.getsockname()[1]}"
        config = uvicorn.Config(
            self._app,
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=3,
        )
        self._server = Server(config)
        self._task = asyncio.create_task(self._server.serve(sockets=[listener]))

    async def stop(self) -> None:
        """Answer what was asked, then close."""
        if self._server is not None and self._task is not None:
            self._server.should_exit = True
            await self._task
