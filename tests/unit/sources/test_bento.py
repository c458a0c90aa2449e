"""What BentoML built of a service, where a bundle is expected."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.errors import ConfigurationError
from headrace.sources.discovery import open_source


def test_a_bento_is_not_served_as_an_empty_folder_but_explained(tmp_path: Path) -> None:
    folder, file = tmp_path / "unpacked", tmp_path / "a.bento"
    (folder / "src").mkdir(parents=True)
    (folder / "bento.yaml").write_text("service: service:svc\n")
    file.write_bytes(b"\xfd7zXZ\x00")

    for place in (folder, file):
        with pytest.raises(ConfigurationError, match="headrace build FOLDER/src"):
            open_source(str(place)).found()
