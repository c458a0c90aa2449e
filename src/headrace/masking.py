"""Hides secrets in text of others: in messages what an address has of them, in stack traces more.

Standard library only: errors and logs need it, in workers too.
"""

from __future__ import annotations

import re

# Callers choose some of the text. Names in it are bounded, so that each expression takes time in
# proportion to its length.
#
# What addresses have before their host, the values in their query that sign them, and our own keys.
_CREDENTIALS = (
    re.compile(r"""(://(?:[^\s/?#'"@:]*:)?)[^\s/?#'"]+(?=@)"""),
    re.compile(
        r"""([?&][\w.-]{0,40}(?:sig|token|key|secret|pass|credential|auth)[\w.-]{0,40}=)[^&\s#'"]+""",
        re.IGNORECASE,
    ),
    re.compile(r"(\bhr_)[A-Za-z0-9_-]{43}"),
)
# What is said to be a secret, behind the scheme of a header's, and private keys.
_SECRETS = (
    re.compile(
        r"""((?:password|passwd|passphrase|[_-]pass(?!\w)|pwd|secret|token|credential|cookie"""
        r"""|authorization|api[_-]?key|access[_-]?key|private[_-]?key)\w{0,40}["']?\s*[:=]\s*["']?"""
        r"""(?:(?:bearer|basic|digest|token)\s+)?)(?!["'\s])[^\s"',;&)\]}]+""",
        re.IGNORECASE,
    ),
    re.compile(r"(-----BEGIN [A-Z ]*PRIVATE KEY-----).*?(?=-----END|\Z)", re.DOTALL),
)


def without_credentials(text: str) -> str:
    """A text whose addresses show no password and no signature, and which has no key of ours.

    Whoever sets an address may put them into it, and messages name what was set.
    """
    if "://" in text or "hr_" in text:
        for secret in _CREDENTIALS:
            text = secret.sub(r"\1***", text)
    return text


def masked(text: str) -> str:
    """A text of somebody else's code without the passwords, tokens and keys that it shows."""
    text = without_credentials(text)
    if "=" in text or ":" in text or "-----" in text:
        for secret in _SECRETS:
            text = secret.sub(r"\1***", text)
    return text
