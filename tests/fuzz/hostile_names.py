"""Names of models, versions, and files that lead somewhere else, and routes made of them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from urllib.parse import quote

# As they are in a path, encoded or not. Some are those of Triton's own tests.
PARTS = [
    *("..", ".", "...", "....//", "%2e%2e", "%2E.", "%252e%252e", "%c0%ae%c0%ae", "%u002e%u002e"),
    *("..%2f", "%2f", "%2F..", "%252f", "%5c", "%255c", "\\", "..\\", "%5c..%5c", "%00", "%2500"),
    *(
        "m%00",
        "m%00.txt",
        "m%0a",
        "m%0d%0aX: y",
        "m%20",
        "%20m",
        "m.",
        "m..",
        "~",
        "~root",
        "$HOME",
    ),
    *(
        "${HOME}",
        "$(id)",
        "`id`",
        "|id",
        ";id",
        "&id",
        "*",
        "?",
        "m*",
        "[m]",
        "{m}",
        "{{7*7}}",
        "%s",
    ),
    *(
        "%n%n",
        "%x",
        "m'",
        'm"',
        "m' or '1'='1",
        "<m>",
        "m#",
        "m%23",
        "m%3f",
        "m;v=1",
        "m:1",
        "m@v1",
    ),
    *("C:", "C:%5cx", "file:%2f%2f%2fetc%2fpasswd", "http:%2f%2fhost", "CON", "NUL", "-", "--help"),
    *("M", "%6D%00", "m%E2%80%8B", "%EF%BD%8D", "%D0%BC", "m%CC%81", "%F0%9D%90%A6", "%E2%80%AEm"),
    *("%ff%fe", "%80", "%ed%a0%80", "%f4%90%80%80", "_", "__proto__", "__class__", "constructor"),
    *("m" * 300, "%2e" * 300, "m/" * 100 + "m", "0", "-1", "1e9", "NaN", "null", "None", "latest"),
    *("etc/passwd", "proc/self/environ", "model-settings.json", "custom_m.py", ".git/config"),
]
BEFORE = ["", "/", "..", "%2e%2e", "m", "m/", "%2f", "./", "//"]
ROUTES = [
    *("/v2/models/%s", "/v2/models/%s/ready", "/v2/models/%s/infer", "/v2/models/%s/versions/1"),
    *(
        "/v2/models/m/versions/%s",
        "/v2/models/m/versions/%s/infer",
        "/v2/models/m/versions/%s/ready",
    ),
    *("/v2/models/%s/stats", "/v2/models/%s/versions/%s", "/v1/models/%s", "/v1/models/%s:predict"),
    *(
        "/v2/repository/models/%s/load",
        "/v2/repository/models/%s/unload",
        "/v2/models/%s/invocations",
    ),
    *("/%s", "/v2/%s", "/docs/%s", "/static/%s", "/api/%s", "/metrics/%s", "/v2/health/%s"),
    "/v2/models/%s/generate",
]


def names(seed: int) -> Iterator[str]:
    """Endlessly: each of them, then each with another before it, then changed in one place."""
    rng = random.Random(seed)
    yield from PARTS
    yield from (before + part for before in BEFORE for part in PARTS)
    while True:
        name = rng.choice(BEFORE) + rng.choice(PARTS) + rng.choice(BEFORE + PARTS)
        at = rng.randrange(len(name) + 1)
        yield (
            name[:at] + quote(chr(rng.choice([*range(1, 256), 0x2025, 0xFF0E, 0x2215]))) + name[at:]
        )


def targets(seed: int) -> Iterator[tuple[str, str]]:
    """Endlessly: a method, and a request target that a client may send."""
    rng = random.Random(seed)
    for name in names(seed):
        # What would end the target or its path; what they do is tried elsewhere.
        safe = quote(name, safe="".join({*map(chr, range(0x21, 0x7F))} - {"?", "#"}))
        route = rng.choice(ROUTES)
        method = rng.choice(["GET", "POST", "POST", "HEAD", "DELETE", "PUT"])
        yield method, route.replace("%s", safe)
