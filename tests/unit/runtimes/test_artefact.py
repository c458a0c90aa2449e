"""Reading the files of a model: what fails, and in which words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from headrace.errors import InvalidModel
from headrace.runtimes import artefact


def missing_file() -> Any:
    return open("/nowhere/model.bin")


def missing_by_its_words() -> Any:
    # As libraries do that look for one of several files.
    raise FileNotFoundError("no file named model.safetensors")


@pytest.mark.parametrize(
    ("load", "reason"),
    [
        (missing_file, "'model.bin': no such file or directory"),
        (missing_by_its_words, "FileNotFoundError was raised"),
    ],
)
def test_a_missing_file_is_named_where_its_name_is_known(
    load: Callable[[], Any], reason: str
) -> None:
    with pytest.raises(InvalidModel) as failed:
        artefact.read("the model", load)

    assert failed.value.message == f"the model could not be read: {reason}"
