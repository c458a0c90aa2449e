"""The content type of a request or an input: MLServer's word for what its tensors stand for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headrace.errors import InvalidInput

# The names of custom codecs are known to their models only, but are not longer than this.
MAX_LENGTH = 256


def check_content_type(parameters: Mapping[str, Any], where: str) -> None:
    """Require that the content type, if there is one, may be the name of a codec.

    Raises:
        InvalidInput: it is not a string, or is too long; `where` says whose it is.
    """
    given = parameters.get("content_type")
    if given is None:
        return
    if not isinstance(given, str):
        raise InvalidInput(f"{where}: parameter content_type must be a string")
    if len(given) > MAX_LENGTH:
        raise InvalidInput(
            f"{where}: parameter content_type has {len(given)} characters, at most {MAX_LENGTH} "
            "allowed"
        )
