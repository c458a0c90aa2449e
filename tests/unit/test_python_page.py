"""docs/reference/python.md: each name on it exists as shown, and no public name is missing."""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, NamedTuple, get_type_hints

import pytest

import headrace
import headrace.client
import headrace.model
import headrace.plugins
from headrace import errors

PAGE = Path(__file__).parents[2] / "docs/reference/python.md"
HEADING = re.compile(r"^#+ `(headrace[\w.]*)`$", re.MULTILINE)
ROW = re.compile(r"^\| (`.*?`) \|")
CLASS = re.compile(r"^```python\nclass (\w+)(\(.*?\))\n```$", re.MULTILINE | re.DOTALL)
KIND = re.compile(r"^\| `(\w+)` \| `(\w+)` \|", re.MULTILINE)


class Shown(NamedTuple):
    """A name of the page, and its signature where one is shown."""

    path: str
    signature: str = ""

    @property
    def object(self) -> Any:
        return resolve_name(self.path)


def names() -> Iterator[Shown]:
    """The names in headings and in the first column of tables, which belong to their heading."""
    owner = ""
    for line in PAGE.read_text().splitlines():
        if heading := HEADING.match(line):
            owner = heading[1]
            yield Shown(owner)
        elif row := ROW.match(line):
            for text in re.findall("`([^`]+)`", row[1]):
                name, bracket, rest = text.replace(r"\|", "|").partition("(")
                path = name if name.startswith("headrace.") else f"{owner}.{name}"
                yield Shown(path, bracket + rest)


def classes() -> Iterator[Shown]:
    """The classes in code blocks, by the headings above them."""
    text = PAGE.read_text()
    paths = {path.rpartition(".")[2]: path for path in HEADING.findall(text)}
    for name, signature in CLASS.findall(text):
        yield Shown(paths[name], signature)


def parameters(made: Any) -> list[tuple[str, Any, Any]]:
    """Name, kind and default of each parameter but `self`; a fresh list or dict is a default."""
    fresh = {
        field.name: field.default_factory()
        for field in (dataclasses.fields(made) if dataclasses.is_dataclass(made) else ())
        if field.default_factory is not dataclasses.MISSING
    }
    return [
        (each.name, each.kind, fresh.get(each.name, each.default))
        for each in inspect.signature(made).parameters.values()
        if each.name != "self"
    ]


@pytest.mark.parametrize("path", dict.fromkeys(shown.path for shown in names()))
def test_a_name_of_the_page_can_be_imported(path: str) -> None:
    assert resolve_name(path) is not None


@pytest.mark.parametrize(
    "shown", [each for each in (*names(), *classes()) if each.signature], ids=lambda each: each.path
)
def test_a_signature_of_the_page_is_the_real_one(shown: Shown) -> None:
    made = shown.object
    namespace = dict(vars(sys.modules[made.__module__]))
    exec(f"def stub{shown.signature}: ...", namespace)
    stub = namespace["stub"]
    real = get_type_hints(made.__init__ if isinstance(made, type) else made)

    assert parameters(stub) == parameters(made)
    for name, hint in get_type_hints(stub).items():
        assert real[name] == hint, name


def test_no_public_name_is_missing() -> None:
    public = {
        f"{module.__name__}.{name}"
        for module in (headrace, headrace.model, headrace.client, headrace.plugins)
        for name in module.__all__
    }

    assert public - {shown.path for shown in names()} == set()


def test_every_error_is_on_the_page_with_its_kind() -> None:
    kinds = {error.__name__: kind for kind, error in errors.BY_KIND.items()}

    assert dict(KIND.findall(PAGE.read_text())) == kinds
