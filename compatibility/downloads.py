"""Answers downloads of data sets from files, where their addresses are out of reach."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def offered(files: Mapping[str, bytes]) -> Iterator[dict[str, str]]:
    """Environment variables with a proxy for plain HTTP, which answers with the file of that name.

    Without files there is no proxy, and the variables are empty.
    """
    if not files:
        yield {}
        return

    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = files.get(self.path.rpartition("/")[2])
            self.send_response(404 if body is None else 200)
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield {"http_proxy": address, "no_proxy": "127.0.0.1,localhost"}
    finally:
        server.shutdown()
        server.server_close()
