"""Names that lead elsewhere are unknown, wherever they are given, and lead to no file."""

from __future__ import annotations

import http.client
import os
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from fuzz.figures import SEED, amount, counted
from fuzz.hostile_names import names, targets
from fuzz.hostile_server import Target, attacked
from headrace import models
from headrace.errors import HeadraceError
from headrace.store.store import Store
from headrace.store.tag import Tag

pytestmark = [pytest.mark.fuzz, pytest.mark.e2e]

BATCH = 500
# Outside of what is served, beside it, and in it: no answer may hold any of them.
CANARY = "canary-4411"


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Target]:
    (tmp_path / "secret").write_text(CANARY)
    with attacked(tmp_path / "models") as target:
        (tmp_path / "models" / "secret").write_text(CANARY)
        (target.folder / "secret").write_text(CANARY)
        yield target


def test_a_path_with_a_hostile_name_is_unknown(target: Target, tmp_path: Path) -> None:
    before = files_below(tmp_path)
    parts = urlsplit(target.server.http)
    odd: list[tuple[str, str, int]] = []
    with counted("names and paths", "routes") as tally:
        connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=30)
        for method, path in islice(targets(SEED), amount(2000, 50_000)):
            body = b"{}" if method in ("POST", "PUT") else None
            connection.putrequest(method, path, skip_accept_encoding=True)
            connection.putheader("Content-Length", str(len(body or b"")))
            connection.endheaders(body)
            answer = connection.getresponse()
            text = answer.read()
            tally.count += 1
            assert CANARY.encode() not in text
            assert b"root:x:0" not in text
            if answer.status not in (400, 404, 405):
                odd.append((method, path, answer.status))
            if not tally.count % BATCH:
                target.require_well()
        connection.close()
        assert odd == []
    assert files_below(tmp_path) == before


def test_a_hostile_name_is_no_tag_of_a_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "home"))
    (tmp_path / "secret").write_text(CANARY)
    with models.create("m:1", module="headrace.sklearn"):
        pass
    before = files_below(tmp_path)
    root = str(Store().root)
    with counted("names and paths", "store tags") as tally:
        for given in islice(names(SEED), amount(2000, 50_000)):
            for text in (given, unquote(given, errors="surrogateescape"), f"m:{given}"):
                tally.count += 1
                with suppress(HeadraceError):
                    path = os.path.normpath(os.path.join(root, Tag.parse(text).path()))
                    assert path.startswith(root + os.sep), text
                with suppress(HeadraceError):
                    models.get(text)
    assert files_below(tmp_path) == before


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if "seen" not in path.name}
