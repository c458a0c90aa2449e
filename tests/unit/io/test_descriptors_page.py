"""docs/reference/descriptors.md: its code runs, and its signatures are the real ones."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from headrace import io

PAGE = Path(__file__).parents[3] / "docs/reference/descriptors.md"
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)
SIGNATURE = re.compile(r"^([A-Z]\w+)\((.*?)\)$", re.MULTILINE | re.DOTALL)
BLOCKS = BLOCK.findall(PAGE.read_text())


def test_the_code_of_the_page_runs_in_order():
    namespace: dict[str, object] = {}
    for block in BLOCKS:
        exec(block, namespace)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [found for block in BLOCKS for found in SIGNATURE.findall(block) if "=" in found[1]],
)
def test_a_signature_of_the_page_is_the_real_one(name, arguments):
    namespace: dict[str, object] = {}
    exec(f"def shown({arguments}): ...", namespace)
    shown = inspect.signature(namespace["shown"]).parameters  # type: ignore[arg-type]
    real = inspect.signature(getattr(io, name)).parameters

    assert {each.name: each.default for each in shown.values()} == {
        each.name: each.default for each in real.values()
    }
