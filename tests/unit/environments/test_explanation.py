"""What uv says, made fit for clients."""

from __future__ import annotations

import pytest

from headrace.environments.build import LONGEST_MESSAGE, explanation, scrubbed


def test_the_reason_is_one_line_without_the_steps_before_it() -> None:
    output = """Using Python 3.11.7 environment at: a
Resolved 3 packages in 5ms
error: No solution found when resolving dependencies
  cause: Because nosuch was not found and you require nosuch, it cannot be had.
"""

    assert explanation(output) == (
        "No solution found when resolving dependencies: Because nosuch was not found and you "
        "require nosuch, it cannot be had"
    )


def test_older_versions_draw_a_tree() -> None:
    output = "  × No solution found when resolving dependencies:\n  ╰─▶ Because a was not found.\n"

    assert explanation(output) == (
        "No solution found when resolving dependencies: Because a was not found"
    )


def test_silence_is_explained_and_length_is_bounded() -> None:
    assert explanation("") == "uv did not say why"
    assert len(explanation("error: " + "x" * 5000)) == LONGEST_MESSAGE


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("`/home/me/models/x.whl` is bad", "`x.whl` is bad"),
        ("from file:///srv/wheels/x.whl", "from x.whl"),
        ("https://me:secret@host/simple/x/", "https://host/simple/x/"),
        ("(/a/b), /c/d: e/f", "(b), d: e/f"),
        ("a\x1b[31mb", "a [31mb"),
    ],
)
def test_folders_secrets_and_control_characters_are_left_out(text: str, plain: str) -> None:
    assert scrubbed(text) == plain
