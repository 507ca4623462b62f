"""A real HTTP server on the loopback, in a thread: answers as a service does, or with a fault."""

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

import httpx

from carbon_nas.testing.faults import Fault

Respond = Callable[[httpx.Request], httpx.Response]


class FaultServer:
    """Use as a context. `url` is its address, `asked` what it was asked; while `fault` is set, it says just that."""

    def __init__(self, respond: Respond) -> None:
        self.respond = respond
        self.fault: Fault | None = None
        self.asked: list[httpx.Request] = []
        self.closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, request: httpx.Request) -> Fault:
        """Give the fault, or what the service would say, in the same form."""
        self.asked.append(request)
        if self.fault is not None:
            return self.fault
        response = self.respond(request)
        return Fault(response.status_code, response.content)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                request = httpx.Request("GET", server.url + self.path, headers=dict(self.headers.items()))
                answer = server.answer(request)
                self.close_connection = True
                try:
                    self.send_response(answer.status)
                    for name, value in answer.headers.items():
                        self.send_header(name, value)
                    if not answer.stalls:
                        self.send_header("content-length", str(answer.announced or len(answer.body)))
                    self.end_headers()
                    self.wfile.write(answer.body)
                    self.wfile.flush()
                    if answer.stalls:
                        server.closing.wait(30)
                except (BrokenPipeError, ConnectionResetError):
                    pass  # the client has seen enough

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base class names it so
                """Say nothing."""

        return Handler
