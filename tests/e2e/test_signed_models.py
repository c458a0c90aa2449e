"""What `--trust signed` serves: what somebody has signed, and nothing that was put beside it."""

from __future__ import annotations

import compileall
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from headrace.errors import ConfigurationError, LoadFailed
from headrace.settings import ModelSettings, ServerSettings
from headrace.sources import signatures
from support.asking import Answer, ask, numbers
from support.custom import write_model
from support.serving import Server, serving
from support.signing import Signer, signer

pytestmark = pytest.mark.e2e

MARK = "import os\nopen({!r}, 'w').close()\n"


@pytest.fixture(scope="module")
def us(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return signer(tmp_path_factory.mktemp("keys") / "us")


@pytest.fixture(scope="module")
def them(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return signer(tmp_path_factory.mktemp("keys") / "them")


def infer(server: Server, model: str = "m") -> Answer:
    return ask(server.http, "POST", f"/v2/models/{model}/infer", numbers(2))


def unsigned(folder: Path, us: Signer, them: Signer) -> None:
    (folder / "model.sig").unlink()


def of_somebody_else(folder: Path, us: Signer, them: Signer) -> None:
    them.sign(folder)


def changed(folder: Path, us: Signer, them: Signer) -> None:
    with (folder / f"custom_{folder.name}.py").open("a") as file:
        file.write("\n# another line\n")


def added_to(folder: Path, us: Signer, them: Signer) -> None:
    (folder / "numpy.py").write_text("raise SystemExit")


def without_a_file(folder: Path, us: Signer, them: Signer) -> None:
    (folder / "weights").unlink()


def with_other_settings(folder: Path, us: Signer, them: Signer) -> None:
    file = folder / "model-settings.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "implementation": "os:path"}))


def with_a_link(folder: Path, us: Signer, them: Signer) -> None:
    weights = folder / "weights"
    weights.rename(folder.parent / f"{folder.name}-weights")
    weights.symlink_to(folder.parent / f"{folder.name}-weights")


def with_a_damaged_signature(folder: Path, us: Signer, them: Signer) -> None:
    (folder / "model.sig").write_text("{")


def with_the_signature_of_another(folder: Path, us: Signer, them: Signer) -> None:
    other = us.sign(write_model(folder.parent.parent / "elsewhere", name=folder.name))
    (folder / "model.sig").write_bytes((other / "model.sig").read_bytes())


def with_files_elsewhere(folder: Path, us: Signer, them: Signer) -> None:
    file = folder / "model-settings.json"
    outside = {"environment_path": "../outside"}
    file.write_text(json.dumps({**json.loads(file.read_text()), "parameters": outside}))
    us.sign(folder)


def with_code_elsewhere(folder: Path, us: Signer, them: Signer) -> None:
    elsewhere = folder.parent.parent / "code_elsewhere.py"
    elsewhere.write_text((folder / f"custom_{folder.name}.py").read_text())
    file = folder / "model-settings.json"
    implementation = {"implementation": f"{elsewhere}:Custom"}
    file.write_text(json.dumps({**json.loads(file.read_text()), **implementation}))
    us.sign(folder)


def with_files_named_deeper(folder: Path, us: Signer, them: Signer) -> None:
    file = folder / "model-settings.json"
    outside = {"extra": {"tokenizers": [{"vocabulary": "./weights/../../outside"}]}}
    file.write_text(json.dumps({**json.loads(file.read_text()), "parameters": outside}))
    us.sign(folder)


REFUSED = [
    *(unsigned, of_somebody_else, changed, added_to, without_a_file, with_other_settings),
    *(with_a_link, with_a_damaged_signature, with_the_signature_of_another, with_files_elsewhere),
    *(with_code_elsewhere, with_files_named_deeper),
]


@pytest.fixture(scope="module")
def reasons(
    us: Signer, them: Signer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """Why each model is not served, by the name of what was done to it."""
    root = tmp_path_factory.mktemp("signed") / "models"
    for spoil in REFUSED:
        folder = write_model(root, name=spoil.__name__)
        (folder / "weights").write_text("1")
        spoil(us.sign(folder), us, them)
    us.sign(write_model(root))
    with serving(root, "--trust", "signed", "--trust-key", us.public) as server:
        assert infer(server).json["outputs"][0]["data"] == [4.0]
        yield ask(server.http, "GET", "/v2/health/ready").json["models"]


@pytest.mark.parametrize("spoil", REFUSED, ids=lambda spoil: spoil.__name__)
def test_a_model_is_not_served(spoil: Callable[..., None], reasons: dict[str, str]) -> None:
    assert f"'{spoil.__name__}'" in reasons[spoil.__name__]


def test_the_reason_says_what_is_missing(reasons: dict[str, str]) -> None:
    assert reasons["unsigned"].endswith("is not signed: its folder has no model.sig")
    assert "does not match its signature" in reasons["changed"]
    for spoil in (with_files_elsewhere, with_code_elsewhere, with_files_named_deeper):
        assert "outside of its signed folder" in reasons[spoil.__name__]


def test_what_is_loaded_is_the_copy_that_was_verified(tmp_path: Path, us: Signer) -> None:
    # The folder changes while it is loaded, after it was verified.
    load = f"open({str(tmp_path / 'models/m/weights')!r}, 'w').write('9')"
    load += "\nself.factor = float(open(os.path.join(HERE, 'weights')).read())"
    folder = write_model(tmp_path / "models", "return x * self.factor", load)
    (folder / "weights").write_text("3")
    us.sign(folder)
    home = tmp_path / "home"
    env = {"HEADRACE_HOME": str(home)}
    flags = ("--trust", "signed", "--trust-key", us.public)
    with serving(tmp_path / "models", *flags, env=env) as server:
        assert infer(server).json["outputs"][0]["data"] == [6.0]
        assert (folder / "weights").read_text() == "9"
        again = ask(server.http, "POST", "/v2/repository/models/m/load")
        assert (again.status, again.json["code"]) == (422, "invalid_model")
        assert infer(server).json["outputs"][0]["data"] == [6.0]

    assert not list((home / "downloads").iterdir())


def test_modules_in_the_working_directory_are_not_those_of_a_signed_model(
    tmp_path: Path, us: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "mark"
    (tmp_path / "colorsys.py").write_text(MARK.format(str(mark)))
    us.sign(write_model(tmp_path / "models", load="import colorsys"))
    monkeypatch.chdir(tmp_path)
    with serving("models", "--trust", "signed", "--trust-key", us.public) as server:
        assert infer(server).status == 200

    assert not mark.exists()


def test_files_that_the_signer_left_out_are_not_those_of_the_model(
    tmp_path: Path, us: Signer
) -> None:
    mark = tmp_path / "mark"
    folder = write_model(tmp_path / "models")
    source = folder / "custom_m.py"
    right, status = source.read_text(), source.stat()
    # Python takes a compiled module for that of its source if time and size agree.
    bad = MARK.format(str(mark)).ljust(len(right), "#")
    source.write_text(bad)
    os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns))
    compileall.compile_file(source, quiet=1)
    source.write_text(right)
    os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns))
    us.sign(folder, "__pycache__")
    with serving(tmp_path / "models", "--trust", "signed", "--trust-key", us.public) as server:
        assert infer(server).status == 200

    assert (folder / "__pycache__").is_dir()
    assert not mark.exists()


def test_a_certificate_counts_that_comes_from_a_known_one(
    tmp_path: Path, us: Signer, them: Signer
) -> None:
    us.sign(write_model(tmp_path), certified=True)
    them.sign(write_model(tmp_path, name="other"), certified=True)
    with serving(tmp_path, "--trust", "signed", "--trust-certificates", us.root) as server:
        assert infer(server).status == 200
        assert list(ask(server.http, "GET", "/v2/health/ready").json["models"]) == ["other"]


def test_settings_that_differ_from_those_that_were_signed_are_not_used(
    tmp_path: Path, us: Signer
) -> None:
    folder = us.sign(write_model(tmp_path))
    verify = signatures.verifier(ServerSettings(trust="signed", trust_key=str(us.public)))
    assert verify is not None
    read_before = ModelSettings("m", "os:path", str(folder), folder=str(folder))
    place = tmp_path / "place"
    place.mkdir()

    with pytest.raises(LoadFailed, match="its settings are not those that were signed"):
        signatures.verified(read_before, verify, place)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"trust": "signed"}, "needs --trust-key"),
        ({"trust_key": "{public}"}, "need --trust signed"),
        ({"trust": "signed", "trust_key": "{root}"}, "--trust-key: .* holds none"),
        ({"trust": "signed", "trust_key": "nothing"}, "--trust-key: nothing: No such file"),
        ({"trust": "signed", "trust_key": "a", "trust_certificates": "b"}, "needs --trust-key"),
    ],
    ids=["no key", "no trust", "no public key", "no file", "both"],
)
def test_a_key_that_cannot_be_used_is_refused_at_once(
    settings: dict[str, str], words: str, us: Signer
) -> None:
    given = {key: text.format(**us._asdict()) for key, text in settings.items()}

    with pytest.raises(ConfigurationError, match=words):
        signatures.verifier(ServerSettings(**given))  # type: ignore[arg-type]
