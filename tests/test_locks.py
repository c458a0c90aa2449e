"""The locks hold what `pyproject.toml` asks for, no more and no less; `make lock` writes them."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
# The extras in each lock, as in the Makefile, and what a lock leaves out.
LOCKS = {
    "check": ["check", "bench"],
    "demo": ["mlflow", "sklearn"],
    "fuzz": ["fuzz"],
    "server": [],
    "runtimes": ["test-runtimes"],
}
LEFT_OUT = {"runtimes": {"torch"}}
PIN = re.compile(r"^([\w.-]+)(?:\[[\w,-]+\])?==(\S+)", re.MULTILINE)
# A pin, the lines of its hashes, and those of what requires it.
BLOCK = re.compile(r"^([\w.-]+)(?:\[[\w,-]+\])?==.*\n((?:    .*\n)*)", re.MULTILINE)


def required(extras: list[str]) -> Iterator[Requirement]:
    """All that we require ourselves, extras of extras included."""
    optional = PROJECT["project"]["optional-dependencies"]
    texts = [*PROJECT["project"]["dependencies"], *PROJECT["dependency-groups"]["build"]]
    for extra in extras:
        texts += optional[extra]
    for text in texts:
        requirement = Requirement(text)
        if requirement.name == "headrace":
            yield from required(sorted(requirement.extras))
        else:
            yield requirement


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_has_a_fitting_version_of_everything_that_is_required(name: str) -> None:
    pins: dict[str, set[str]] = {}
    for package, version in PIN.findall((ROOT / f"locks/{name}.txt").read_text()):
        pins.setdefault(canonicalize_name(package), set()).add(version)
    for requirement in required(LOCKS[name]):
        package = canonicalize_name(requirement.name)
        if package in LEFT_OUT.get(name, ()):
            continue
        fitting = [v for v in pins.get(package, ()) if requirement.specifier.contains(v, True)]

        assert fitting, f"locks/{name}.txt has no {requirement}; run `make lock`"


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_holds_nothing_for_us_that_is_no_longer_required(name: str) -> None:
    blocks = BLOCK.findall((ROOT / f"locks/{name}.txt").read_text())
    ours = {canonicalize_name(package) for package, lines in blocks if "headrace" in lines}
    wanted = {canonicalize_name(requirement.name) for requirement in required(LOCKS[name])}

    assert ours - wanted == {"headrace"} & ours
    assert wanted - ours == LEFT_OUT.get(name, set())


@pytest.mark.parametrize(
    "lock", sorted(ROOT.glob("locks/clients/*.in")), ids=lambda path: path.stem
)
def test_the_lock_of_a_client_has_what_its_file_asks_for(lock: Path) -> None:
    pins = dict(PIN.findall(lock.with_suffix(".txt").read_text()))
    for line in lock.read_text().split():
        requirement = Requirement(line)

        assert requirement.specifier.contains(pins[requirement.name], True), "run `make lock`"


@pytest.mark.parametrize("lock", sorted(ROOT.glob("locks/**/*.txt")), ids=lambda path: path.stem)
def test_every_pin_has_a_hash_and_no_lock_names_a_url(lock: Path) -> None:
    text = lock.read_text()
    bare = [package for package, lines in BLOCK.findall(text) if "--hash=sha256:" not in lines]

    assert bare == []
    assert "://" not in text
