"""The line that shows progress: on a terminal, for long work, and gone at the end."""

from __future__ import annotations

import io

import pytest

from headrace.store import progress_bar
from headrace.store.progress_bar import ProgressBar, size_text


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def terminal(monkeypatch: pytest.MonkeyPatch, patience: float) -> Terminal:
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setattr(progress_bar, "REDRAW", 0)
    monkeypatch.setattr(progress_bar, "PATIENCE", patience)
    return screen


def test_long_work_shows_its_share_and_the_line_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch, patience=0)
    with ProgressBar("storing a:1", 4000) as bar:
        bar.advance(1000)
        assert "storing a:1 [########                      ]  25% of 4 kB" in screen.getvalue()
        bar.advance(3000)
        assert "100%" in screen.getvalue()

    assert screen.getvalue().endswith("\r\x1b[K")


def test_work_that_is_done_at_once_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch, patience=1000)
    with ProgressBar("storing a:1", 4000) as bar:
        bar.advance(4000)

    assert screen.getvalue() == ""


def test_nothing_is_written_to_what_is_not_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setattr(progress_bar, "PATIENCE", 0)
    with ProgressBar("storing a:1", 4000) as bar:
        bar.advance(4000)

    assert screen.getvalue() == ""


def test_sizes_are_for_people() -> None:
    assert [size_text(n) for n in (0, 999, 1000, 5_400_000, 7 * 10**12)] == [
        "0 B", "999 B", "1 kB", "5 MB", "7000.0 GB"
    ]  # fmt: skip
