"""docs/how-to/from-bentoml.md: the flags, variables and names that it gives exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import headrace
from headrace import errors
from headrace.compat import bentoml
from headrace.compat.bentoml import exceptions
from support.pages import helped

PAGE = (Path(__file__).parents[2] / "docs/how-to/from-bentoml.md").read_text()


def rows(head: str) -> list[list[str]]:
    """The cells of the rows of the table whose first row begins like this."""
    lines = PAGE[PAGE.index(f"\n| {head} ") :].split("\n\n")[0].strip().splitlines()
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def test_every_flag_that_takes_the_place_of_bentomls_is_one_of_serve():
    known = set(re.findall(r"--[\w-]+", helped("serve")))
    found = {
        flag
        for head in ("flag of `bentoml serve`", "key of the configuration file")
        for row in rows(head)
        for flag in re.findall(r"`(--[\w-]+)`", row[1])
    }

    assert len(found) >= 10
    assert found <= known


@pytest.mark.parametrize(
    "command",
    sorted(set(re.findall(r"`(headrace [a-z]+(?: [a-z]+)?)", PAGE))),
)
def test_every_command_of_the_page_exists(command):
    words = command.split()[1:]
    nested = words[0] in ("bundles", "models")

    assert "usage" in helped(*words[: 2 if nested else 1])


def test_every_exception_is_the_class_that_the_page_says():
    given = rows("in `bentoml.exceptions`")
    assert len(given) >= 7
    for theirs, ours, *_ in given[:-1]:
        (name,) = re.match(r"`(\w+)`", ours).groups()
        for each in re.findall(r"`(\w+)`", theirs):
            assert getattr(exceptions, each) is getattr(errors, name)
    for each in re.findall(r"`(\w+)`", given[-1][0]):
        assert issubclass(getattr(exceptions, each), errors.HeadraceError)


def test_every_name_of_ours_that_the_page_gives_exists():
    for _, ours, *_ in rows("in BentoML"):
        for name in re.findall(r"`headrace\.([\w.]+)`", ours):
            found = headrace
            for part in name.split("."):
                found = getattr(found, part)


def test_headrace_itself_has_the_same_names_but_for_those_that_the_page_gives():
    different = {name for row in rows("name") for name in re.findall(r"`bentoml\.(\w+)`", row[0])}
    names = {*bentoml.NAMES, *bentoml.MODULES, "__version__"}

    assert {
        name for name in names if getattr(headrace, name) is not getattr(bentoml, name)
    } == different
