"""An answer with a status and headers of its own, for handlers without a web framework."""

from __future__ import annotations

from typing import Any

from headrace.compat.mlserver.codecs import json


class Response:
    """A body as it is, or any value as JSON; `headers` come after the media type."""

    def __init__(
        self,
        content: Any = None,
        status_code: int = 200,
        headers: dict[str, str] | None = None,
        media_type: str | None = None,
    ) -> None:
        self.status_code = status_code
        if isinstance(content, (bytes, bytearray)):
            self.body, kind = bytes(content), media_type
        elif isinstance(content, str) and media_type is not None:
            self.body, kind = content.encode("utf-8"), media_type
        else:
            self.body = self.render(content)
            kind = media_type or "application/json"
        given = headers or {}
        has_type = any(name.lower() == "content-type" for name in given)
        self.headers = {**({"content-type": kind} if kind and not has_type else {}), **given}

    def render(self, content: Any) -> bytes:
        """The value as JSON, as `encode_to_json_bytes` writes it.

        Raises:
            BadModelOutput: some part has no JSON form.
        """
        return json.dumps(content, "the answer")
