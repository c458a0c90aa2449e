"""`headrace keys`: what it says of mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.cli.main import main


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--rate", "-1"], "--rate: expected"),
        (["--burst", "5"], "--burst: expected"),
        (["--expires", "soon"], "--expires: expected"),
        (["--file", "missing/keys.json"], "--file: 'missing/keys.json': No such file"),
    ],
)
def test_a_wrong_flag_is_named_and_nothing_is_written(
    flags: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)

    assert main(["keys", "create", "ci", "--file", "keys.json", *flags]) == 2

    output = capsys.readouterr()
    assert output.err.startswith(f"headrace: {words}")
    assert output.out == ""
    assert list(tmp_path.iterdir()) == []
