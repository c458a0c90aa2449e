"""docs/how-to/custom-model.md: its models are served, and answer as the page shows."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

import headrace
from headrace.codecs.arguments import Arguments
from headrace.model import InferenceRequest
from support.pages import ADDRESS, CurlExample, blocks, curl_examples, files
from support.serving import Server, serving

pytestmark = pytest.mark.e2e

PAGE = Path(__file__).parents[2] / "docs/how-to/custom-model.md"
SERVE = "headrace serve models\n"
TREE = "models/\n"
ROW = re.compile(r"^\| (`[^|]+`) \| (?:([A-Z0-9, ]+) )?\| (?:`(\w+)` )?\| .+ \|$", re.MULTILINE)
TYPES = {
    "np.ndarray": np.ndarray,
    "NDArray[np.float32]": NDArray[np.float32],
    "list[float]": list[float],
    "list[int]": list[int],
    "list[bool]": list[bool],
    "list[str]": list[str],
    "list[bytes]": list[bytes],
    "list[datetime]": list[datetime],
    "list[dict]": list[dict],
    "float": float,
    "int": int,
    "bool": bool,
    "str": str,
    "bytes": bytes,
    "pd.DataFrame": pd.DataFrame,
    "dict": dict,
    "InferenceRequest": InferenceRequest,
    "Any": Any,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every file that the page shows."""
    root = tmp_path_factory.mktemp("page")
    for name, text in files(PAGE).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with serving(folder / "models") as server:
        yield server


def title(example: CurlExample) -> str:
    model, _, route = example.command.partition("/v2/models/")[2].split()[0].partition("/")
    return f"{model} {route or 'metadata'}"


@pytest.mark.parametrize("example", curl_examples(PAGE), ids=title)
def test_a_command_of_the_page_is_answered_as_shown(example: CurlExample, server: Server) -> None:
    done = subprocess.run(
        ["bash", "-ec", example.command.replace(ADDRESS, urlsplit(server.http).netloc)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr

    shown = without_ids(example.answer, example.language)
    assert without_ids(done.stdout, example.language) == shown


def without_ids(answer: str, language: str) -> Any:
    """The answer without the ids of requests, which are never the same."""
    if language == "json":
        found = json.loads(answer)
        return {name: value for name, value in found.items() if name != "id"}
    return re.sub('"id":"[^"]+"', "", answer).strip()


def test_the_test_on_the_page_passes(folder: Path) -> None:
    (file,) = folder.rglob("test_*.py")
    source = str(Path(headrace.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", file.name],
        cwd=file.parent,
        env={**os.environ, "PYTHONPATH": source},
        capture_output=True,
        text=True,
        timeout=100,
    )

    assert done.returncode == 0, done.stdout


def test_no_block_of_the_page_is_left_untested() -> None:
    shown = [text for _, text in blocks(PAGE)]
    asked = [text for each in curl_examples(PAGE) for text in (each.command, each.answer)]
    tested = [*files(PAGE).values(), *asked, SERVE]

    assert [text for text in shown if text not in tested and not text.startswith(TREE)] == []


@pytest.mark.parametrize("name", TYPES)
def test_the_table_of_types_says_what_a_type_means(name: str) -> None:
    def predict(x): ...

    predict.__annotations__["x"] = TYPES[name]
    described = [
        (each.datatype, each.parameters.get("content_type", ""))
        for each in Arguments(predict).metadata()
    ]

    datatype, content_type = table()[name]
    assert described == ([(datatype, content_type)] if datatype else [])


def test_the_table_of_types_has_no_others() -> None:
    assert sorted(table()) == sorted(TYPES)


def table() -> dict[str, tuple[str, str]]:
    """Datatype and content type of each type in the page's table."""
    found = {}
    for names, datatypes, content_type in ROW.findall(PAGE.read_text()):
        each = re.findall("`([^`]+)`", names)
        found.update(zip(each, ((d, content_type) for d in datatypes.split(", ")), strict=True))
    return found
