"""Cross-origin requests from browsers, if the settings allow any."""

from __future__ import annotations

from typing import Any

from starlette.middleware.cors import CORSMiddleware

from headrace.settings import CorsSettings


def with_cors(app: Any, cors: CorsSettings | None) -> Any:
    """The application behind Starlette's middleware, or the application itself if `cors` is None.

    Behind the middleware every request is an ASGI task; small ones are not answered directly.
    """
    if cors is None:
        return app
    return CORSMiddleware(
        app,
        allow_origins=cors.allow_origins,
        allow_origin_regex=cors.allow_origin_regex,
        allow_credentials=cors.allow_credentials,
        allow_methods=cors.allow_methods,
        allow_headers=cors.allow_headers,
        expose_headers=cors.expose_headers,
        max_age=cors.max_age,
    )
