"""The short walks in docs/tutorials: every block is typed, and shows what the page shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.pages import files
from support.tutorial import TUTORIALS, tutorial

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(500)]

HOW_TO = TUTORIALS.parent / "how-to"
# The walk to a container has a test of its own, which knows notebooks and bundles.
WALKS = sorted(path.stem for path in TUTORIALS.glob("*.md") if path.stem != "notebook-to-container")


@pytest.mark.parametrize("name", WALKS)
def test_every_block_of_a_walk_shows_what_the_page_shows(name: str, tmp_path: Path) -> None:
    with tutorial(TUTORIALS / f"{name}.md", tmp_path) as page:
        shown = page.follow_all()

    assert len(shown) >= 5


def test_every_block_of_the_page_for_operators_shows_what_the_page_shows(tmp_path: Path) -> None:
    with tutorial(HOW_TO / "operate.md", tmp_path) as page:
        shown = page.follow_all()

    assert len(shown) == 7
    for line in ("listening on", "loading, with the imports of its framework", "model is ready"):
        assert line in page.log()


def test_every_block_of_the_page_on_production_shows_what_the_page_shows(tmp_path: Path) -> None:
    with tutorial(HOW_TO / "production.md", tmp_path) as page:
        assert len(page.follow_all()) == 2


@pytest.mark.parametrize("name", WALKS)
def test_the_index_and_the_readme_lead_to_each_walk(name: str) -> None:
    root = TUTORIALS.parents[1]

    assert f"tutorials/{name}.md" in (root / "docs/index.md").read_text()
    assert f"docs/tutorials/{name}.md" in (root / "README.md").read_text()


def test_the_plugin_of_the_how_to_page_is_the_one_that_the_walk_serves() -> None:
    assert files(TUTORIALS / "image-plugin.md")["plugin.py"] in (HOW_TO / "plugins.md").read_text()
