"""The page at `/docs`: every route of the OpenAPI document with a form to try it.

One self-contained file, so that it works without a network.
"""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from headrace.access.needs import OPEN
from headrace.admin.admin_route import AdminRoute

PAGE = Path(__file__).with_name("docs.html").read_text(encoding="utf-8")


def docs_route() -> AdminRoute:
    """The route of the page, which says nothing about this server."""
    return AdminRoute("/docs", OPEN, _show)


def page(root: str = "") -> Response:
    """The page; `root` leads from its own path to the root of the server, as in `../`."""
    text = PAGE.replace("<head>", f'<head>\n<base href="{root}">', 1) if root else PAGE
    return Response(text, headers=HEADERS, media_type="text/html")


async def _show(request: Request) -> Response:
    return page()


def _policy(page: str) -> str:
    """What a browser may load and run for this page: its own script, styles and this server."""
    script = re.search("<script>(.*)</script>", page, re.DOTALL)
    assert script is not None, "the page has one script"
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; "
        "connect-src 'self'; frame-ancestors 'none'; base-uri 'self'; form-action 'none'"
    )


HEADERS = {
    "content-security-policy": _policy(PAGE),
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
