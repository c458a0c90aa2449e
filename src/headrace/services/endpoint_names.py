"""What an endpoint may be called, and where it may be served."""

from __future__ import annotations

from headrace.errors import InvalidModel, shorten

# What BentoML's servers have there themselves, and so does this one or its users' probes.
RESERVED_NAMES = frozenset(("index", "swagger", "docs", "metrics", "healthz", "livez", "readyz"))
# Paths of the server itself, and those that everything of a protocol is below.
RESERVED_PATHS = frozenset(
    (
        *("/docs", "/docs.json", "/health", "/healthz", "/invocations", "/livez", "/metrics"),
        *("/openapi.json", "/ping", "/readyz", "/version", "/v2", "/api/predict", "/api/status"),
    )
)
RESERVED_BELOW = ("/v2/", "/v1/models/", "/docs/")


def checked_name(name: str) -> str:
    """The name of an endpoint.

    Raises:
        InvalidModel: it is not an identifier, or the server has something of that name.
    """
    if not name.isidentifier():
        raise InvalidModel(
            f"endpoint '{shorten(name)}': its name must be a Python identifier, as it is in clients"
        )
    if name in RESERVED_NAMES:
        raise InvalidModel(
            f"endpoint '{name}': the name is reserved, as are {', '.join(sorted(RESERVED_NAMES))}"
        )
    return name


def checked_route(route: str, what: str) -> str:
    """The path of an endpoint or a mounted application, with one slash in front and none behind.

    Raises:
        InvalidModel: it is not a plain path, or the server answers there itself.
    """
    if route.startswith(("//", ":", "/:")) or any(mark in route for mark in "?#{} "):
        raise InvalidModel(
            f"{what}: route '{shorten(route)}' must be a path such as '/v1/classify', without '?', "
            "'#', braces and spaces"
        )
    path = "/" + route.strip("/")
    if path in RESERVED_PATHS or path.startswith(RESERVED_BELOW):
        raise InvalidModel(f"{what}: the server answers {shorten(path)} itself; use another route")
    return path
