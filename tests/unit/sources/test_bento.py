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


@pytest.mark.parametrize("name", ["bentofile.yaml", "headrace.yaml", "vtsfile.yaml"])
def test_the_folder_of_a_service_is_not_served_as_an_empty_one(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text('service: "service.py:svc"\n')

    with pytest.raises(ConfigurationError, match="`headrace serve service.py:svc` serves it"):
        open_source(str(tmp_path)).found()


@pytest.mark.parametrize("text", ["models: [iris]\n", "service: null\n", "[", "service: [a]\n"])
def test_a_folder_whose_build_file_has_no_service_may_be_empty(tmp_path: Path, text: str) -> None:
    (tmp_path / "headrace.yaml").write_text(text)

    assert open_source(str(tmp_path)).found() == []
