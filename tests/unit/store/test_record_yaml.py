"""Records that others wrote: whatever is wrong with them is said in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.errors import InvalidModel
from headrace.store.record_yaml import read_record


@pytest.mark.parametrize(
    "text",
    ["a: !!timestamp x", "a: !!int x", "a: !!python/complex x", "a: !!binary abc", "? [a]\n: b"],
)
def test_a_value_that_its_type_cannot_have_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "model.yaml"
    file.write_text(text)

    with pytest.raises(InvalidModel, match="'model.yaml' is not valid YAML"):
        read_record(file)
