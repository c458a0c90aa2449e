"""The search for the word that was meant, in bounded time."""

from __future__ import annotations

import difflib

import pytest

from headrace.errors import MOST_COMPARED, nearest, shorten


def test_the_word_that_was_meant_is_found_among_a_thousand() -> None:
    known = [f"feature_{number:04}" for number in range(1000)]

    assert nearest("featrue_0512", known) == "feature_0512"
    assert nearest("FEATURE_0999", known) == "feature_0999"
    assert nearest("zzz", known) == ""


def test_a_word_of_megabytes_is_no_typo() -> None:
    assert nearest("a" * 8_000_000, ["aaa"]) == ""


def test_only_so_many_words_are_compared_letter_by_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[int] = []

    def counted(word: str, known: list[str], count: int) -> list[str]:
        compared.append(len(known))
        return []

    monkeypatch.setattr(difflib, "get_close_matches", counted)
    nearest("feature", [f"feature_{number}" for number in range(5000)])

    assert compared == [MOST_COMPARED]


@pytest.mark.parametrize("text", ["a" * 64, "a" * 65, "\\" * 40, "\n" * 40, "a" * 10_000_000])
def test_a_shortened_text_says_that_it_is_cut(text: str) -> None:
    shown = shorten(text)

    assert len(shown) <= 64
    assert shown.endswith("...") == (len(text.encode("unicode_escape")) > 64)
