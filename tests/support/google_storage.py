"""A stand-in for Google Cloud Storage: its JSON API, as far as it lists and gives out objects."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs, unquote, urlsplit


@contextmanager
def bucket(folder: Path) -> Iterator[str]:
    """The URL of a server whose only bucket, of any name, has the files of a folder.

    Source: Cloud Storage JSON API, "Objects: list" and "Objects: get".
    """
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            _, _, name = parts.path.partition("/o/")
            if name:
                self._send((folder / unquote(name)).read_bytes(), "application/octet-stream")
                return
            query = {key: values[0] for key, values in parse_qs(parts.query).items()}
            prefix, delimiter = query.get("prefix", ""), query.get("delimiter")
            items, prefixes = [], set()
            for each in names:
                if not each.startswith(prefix):
                    continue
                head, found, _ = each[len(prefix) :].partition(delimiter or "\0")
                if found:
                    prefixes.add(prefix + head + found)
                else:
                    size = (folder / each).stat().st_size
                    items.append({"kind": "storage#object", "name": each, "size": str(size)})
            answer = {"kind": "storage#objects", "items": items, "prefixes": sorted(prefixes)}
            self._send(json.dumps(answer).encode(), "application/json")

        def _send(self, body: bytes, content_type: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
