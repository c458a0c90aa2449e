"""docs/how-to/access.md: typed block by block, and answered as it shows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from headrace.access.keys_file import read
from support.asking import ask
from support.custom import write_model
from support.pages import blocks
from support.serving import until
from support.walkthrough import Walkthrough

pytestmark = pytest.mark.e2e

PAGE = Path(__file__).parents[2] / "docs/how-to/access.md"


def test_the_page_works_as_it_is_typed(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    write_model(folder / "models", name="double")
    page = blocks(PAGE)
    (table,) = [text for language, text in page if language == "" and "SCOPES" in text]
    walk = Walkthrough(folder, page, tmp_path, {})
    try:
        walk.follow(until="headrace serve")
        assert walk.run("headrace", "keys", "list", "--file", "keys.json") == table
        walk.follow()
        assert [asked.answer for asked in walk.asked] == [asked.shown for asked in walk.asked]
        assert len(walk.asked) == 3
        # What the page has typed since counts without a restart.
        keys = {name: (folder / f"{name}.key").read_text().strip() for name in ("team-a", "ops")}
        revoked = {"X-API-Key": keys["team-a"]}
        until(lambda: ask(walk.http, "GET", "/v2", headers=revoked).status == 401, 60, "revoked")
        assert ask(walk.http, "GET", "/v2", headers={"X-API-Key": keys["ops"]}).status == 200
        walk.stop()
        assert not any(key in walk.log() for key in keys.values())
    finally:
        walk.close()


def test_the_file_that_the_page_shows_is_one(tmp_path: Path) -> None:
    (shown,) = [text for _, text in blocks(PAGE) if '"sha256"' in text]
    shown = shown.replace("5f0e...", "0" * 64)
    file = tmp_path / "keys.json"
    file.write_text(shown)
    file.chmod(0o600)

    (entry,) = read(str(file), "the file")

    assert set(json.loads(shown)["keys"][0]) == set(entry.__struct_fields__)
