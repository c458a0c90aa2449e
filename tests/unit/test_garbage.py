"""What the garbage collector does while a process starts."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from headrace import garbage


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    """The collector as it was before."""
    yield
    gc.unfreeze()
    gc.enable()


def test_imports_are_spared_while_they_last_and_afterwards() -> None:
    before = gc.get_freeze_count()

    with garbage.sparing_imports():
        assert not gc.isenabled()
        imported = [[] for _ in range(100)]

    assert gc.isenabled()
    assert gc.get_freeze_count() >= before + len(imported)


def test_after_an_import_that_failed_everything_is_collected_as_before() -> None:
    before = gc.get_freeze_count()

    with pytest.raises(ImportError), garbage.sparing_imports():
        raise ImportError

    assert gc.isenabled()
    assert gc.get_freeze_count() == before
