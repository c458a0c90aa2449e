"""Stored models for tests, and what must be true of a store whatever happened to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from headrace import models
from headrace.models import StoredModel
from headrace.store.store import MODELS, Store


def store(tag: str = "iris", content: str = "weights", **kept: Any) -> StoredModel:
    """A stored model of one file, `model.txt`."""
    with models.create(tag, **{"module": "headrace.sklearn", **kept}) as model:
        Path(model.path_of("model.txt")).write_text(content)
    return model


def require_sound(home: Path) -> list[StoredModel]:
    """Every model is whole, `latest` is right, and there is nothing else; returns the models."""
    found = models.list()
    for model in found:
        model.verify()
        assert models.get(model.tag) == model
    for name in {model.tag.name for model in found}:
        versions = [model for model in found if model.tag.name == name]
        newest = max(versions, key=lambda each: (each.info.creation_time, str(each.tag.version)))
        assert models.get(name).info.creation_time == newest.info.creation_time
    folders = {str(path.parent) for path in (home / "models").glob("[!.]*/*/*")}
    whole = {str(item.path) for item in Store(MODELS).list()}
    assert folders <= {path for path in folders if any(path.startswith(each) for each in whole)}
    return found


def left_behind(home: Path) -> list[str]:
    """What is being made or removed, or was when its process died."""
    return sorted(path.name for path in (home / "models" / ".staging").glob("*"))
