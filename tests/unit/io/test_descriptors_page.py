"""docs/reference/descriptors.md: its code runs, and its signatures are the real ones."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from headrace import io
from headrace.adapters.error_bodies import open_inference_error
from headrace.errors import HeadraceError

PAGE = Path(__file__).parents[3] / "docs/reference/descriptors.md"
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)
SIGNATURE = re.compile(r"^([A-Z]\w+)\((.*?)\)$", re.MULTILINE | re.DOTALL)
BLOCKS = BLOCK.findall(PAGE.read_text())
REFUSED = re.compile(
    r"^\| `([A-Z]\w+\(.*?\))` \| (?:nothing|`(.*?)`)(?: as `(.*?)`)? \| (\d{3}) \| (.*) \|$",
    re.MULTILINE,
).findall(PAGE.read_text())


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


def test_the_page_has_the_words_of_every_descriptor():
    named = {descriptor.partition("(")[0] for descriptor, *_ in REFUSED}

    assert named == {name for name in vars(io) if name in io.__all__} - {
        *("Arguments", "Descriptor", "Encoded", "Endpoint", "Shape", "Upload"),
        "endpoint_descriptors",
    }
    assert len(REFUSED) >= 25


@pytest.mark.parametrize(("descriptor", "body", "media_type", "status", "words"), REFUSED)
def test_bad_input_is_refused_in_the_words_of_the_page(descriptor, body, media_type, status, words):
    namespace = dict(vars(io))
    exec(f"made = {descriptor}", namespace)
    headers = {"content-type": media_type} if media_type else {}

    with pytest.raises(HeadraceError) as caught:
        namespace["made"].decode(body.replace("\\n", "\n").encode(), headers)

    assert (open_inference_error(caught.value)[0], caught.value.message) == (int(status), words)
