"""Which environment variables are settings: ours, MLServer's, and what only looks like one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from headrace.errors import ConfigurationError, nearest, shorten
from headrace.sources import server_keys
from headrace.sources.model_keys import HINTS

OURS, THEIRS = "HEADRACE_", "MLSERVER_"
PREFIXES = (OURS, THEIRS)
# Flags of `headrace serve` that are no settings of the server.
ARGUMENTS = ("name", "plugin", "plugin_class", "packages", "conf")
# Read elsewhere: by what is kept between runs, by images, by build files, and by clients.
ELSEWHERE = ("home", "container", "bundle", "mlflow_model_path", "api_key")
# What begins like this is read by `headrace infer`, by a runtime, or by the tests of this project.
FAMILIES = ("infer_", "model_huggingface_", "model_onnx_", "test_")

# What Kubernetes sets in every pod for a Service that is named like a setting.
_SERVICE_LINK = re.compile(
    r"\w+_SERVICE_HOST|\w+_SERVICE_PORT(_\w+)?|\w+_PORT_\d+_(TCP|UDP|SCTP)(_(ADDR|PORT|PROTO))?"
)
_LINKED_PORT = re.compile(r"(tcp|udp|sctp)://")


def without_links(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables, without those that Kubernetes sets for Services."""
    return {name: value for name, value in environ.items() if not _is_link(name, value)}


def unknown(environ: Mapping[str, str]) -> tuple[str, ...]:
    """A sentence for each variable of MLServer that does not exist.

    Raises:
        ConfigurationError: one of ours does not exist; decision 21 says why it is refused.
    """
    ours = (*server_keys.KNOWN, *ARGUMENTS, *ELSEWHERE, *(f"model_{key}" for key in HINTS))
    for name in _strange(environ, OURS, ours):
        raise ConfigurationError(
            f"{shorten(name)}: there is no such variable{_hint(name, OURS, ours)}"
        )
    theirs = (*server_keys.KNOWN, *(f"model_{key}" for key in HINTS))
    return tuple(
        f"{shorten(name)} is unknown and has no effect{_hint(name, THEIRS, theirs)}"
        for name in _strange(environ, THEIRS, theirs)
    )


def _hint(name: str, prefix: str, known: tuple[str, ...]) -> str:
    # Without the prefix, which would make any two names alike.
    near = nearest(name.removeprefix(prefix), known)
    return f"; did you mean '{prefix}{near.upper()}'?" if near else ""


def _strange(environ: Mapping[str, str], prefix: str, known: tuple[str, ...]) -> Iterator[str]:
    for name, value in sorted(environ.items()):
        rest = name.removeprefix(prefix).lower()
        if name.startswith(prefix) and not (
            rest in known or rest.startswith(FAMILIES) or _is_link(name, value)
        ):
            yield name


def _is_link(name: str, value: str) -> bool:
    if not name.startswith(PREFIXES):
        return False
    return _SERVICE_LINK.fullmatch(name) is not None or (
        name.endswith("_PORT") and _LINKED_PORT.match(value) is not None
    )
