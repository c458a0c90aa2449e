"""Inputs that were found by fuzzing, given to the decoders that they were found for."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzz.decoders import TARGETS
from fuzz.exploration import CORPUS, LARGEST_KEPT


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", TARGETS)
def test_a_decoder_refuses_what_it_cannot_read_and_raises_nothing_else(name: str) -> None:
    target = TARGETS[name]
    for data in (*target.seeds, *(file.read_bytes() for file in kept(name))):
        target.try_out(data)


def test_what_is_kept_is_small_and_belongs_to_a_target() -> None:
    files = [file for file in CORPUS.rglob("*") if file.is_file()]

    assert {file.parent.name for file in files} <= TARGETS.keys()
    assert [file.name for file in files if file.suffix != ".bin"] == []
    assert [file.name for file in files if file.stat().st_size > LARGEST_KEPT] == []


def kept(name: str) -> list[Path]:
    return sorted((CORPUS / name).glob("*.bin"))
