"""Stored models for tests, and what must be true of a store whatever happened to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from headrace import bundles, models
from headrace.models import StoredModel
from headrace.store.kinds import MODELS, Kind
from headrace.store.store import Store


def store(tag: str = "iris", content: str = "weights", **kept: Any) -> StoredModel:
    """A stored model of one file, `model.txt`."""
    with models.create(tag, **{"module": "headrace.sklearn", **kept}) as model:
        Path(model.path_of("model.txt")).write_text(content)
    return model


def require_sound(home: Path, kind: Kind = MODELS) -> list[Any]:
    """Every item is whole, `latest` is right, and there is nothing else; returns the items."""
    public: Any = models if kind is MODELS else bundles
    found = public.list()
    # One whose record is damaged would be left out.
    assert [item.tag for item in found] == [item.tag for item in Store(kind).list()]
    for item in found:
        item.verify()
        assert public.get(item.tag) == item
    for name in {item.tag.name for item in found}:
        versions = [item for item in found if item.tag.name == name]
        newest = max(versions, key=lambda each: (each.info.creation_time, str(each.tag.version)))
        assert public.get(name).info.creation_time == newest.info.creation_time
    folders = {str(path.parent) for path in (home / kind.folder).glob("[!.]*/*/*")}
    whole = {str(item.path) for item in Store(kind).list()}
    assert folders <= {path for path in folders if any(path.startswith(each) for each in whole)}
    return found


def left_behind(home: Path, kind: Kind = MODELS) -> list[str]:
    """What is being made or removed, or was when its process died."""
    return sorted(path.name for path in (home / kind.folder / ".staging").glob("*"))
