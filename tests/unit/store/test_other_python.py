"""Models that another Python saved, and that this one cannot read."""

from __future__ import annotations

import pickle
import platform
from pathlib import Path

import pytest

from headrace import models
from headrace.errors import InvalidModel


def saved_by(version: str) -> models.StoredModel:
    """A model whose pickles are damaged, saved by that Python."""
    with models.create("old:v1", module="headrace.picklable_model") as model:
        Path(model.path_of("saved_model.pkl")).write_bytes(b"not a pickle")
        Path(model.path_of("custom_objects.pkl")).write_bytes(b"not a pickle")
    record = Path(model.path_of("model.yaml"))
    here = f"python_version: {platform.python_version()}"
    record.write_text(record.read_text().replace(here, f"python_version: {version}"))
    Path(model.path_of(".manifest.json")).unlink()
    return models.get("old")


def test_a_model_that_another_python_pickled_says_so_where_it_cannot_be_read() -> None:
    model = saved_by("3.7.16")

    with pytest.raises(InvalidModel, match="saved by Python 3.7.16 and this is 3"):
        model.load_model()
    with pytest.raises(InvalidModel, match="saved by Python 3.7.16 and this is 3"):
        _ = model.custom_objects


def test_a_model_of_this_python_fails_by_its_own_error() -> None:
    model = saved_by(platform.python_version())

    with pytest.raises(pickle.UnpicklingError):
        model.load_model()
