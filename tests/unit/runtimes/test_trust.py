"""Where code is trusted: what each layer refuses by itself, and which files may open a pickle."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import headrace
from headrace.errors import InvalidModel
from headrace.runtimes import artefact, create, trust
from headrace.settings import ModelSettings

SOURCES = Path(headrace.__file__).parent
# Modules that run code from what they read.
READERS = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
# These may, or ask whether one is installed. They run in a worker, or in the process of a user who
# saves and loads models.
MAY_UNPICKLE = {
    # Only what the server and the process that decodes for it tell each other.
    "decoding/__main__.py",
    "decoding/decoder.py",
    "decoding/exchange.py",
    "frameworks/pickling.py",
    "picklable_model.py",
    "pytorch.py",
    "runtimes/artefact.py",
    "runtimes/pickle_runtime.py",
    "store/custom_objects.py",
}
# These ask that one is opened, by the function that all runtimes use.
MAY_ASK = {
    "picklable_model.py",
    "runtimes/mlflow/native_flavors.py",
    "runtimes/pickle_runtime.py",
    "runtimes/tables/lightgbm_runtime.py",
    "runtimes/tables/sklearn_runtime.py",
    "runtimes/tensors/keras_runtime.py",
    "sklearn.py",
}


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(SOURCES.rglob("*.py")):
        yield str(path.relative_to(SOURCES)), ast.parse(path.read_text(encoding="utf-8"))


def read_names(tree: ast.Module) -> set[str]:
    """The modules that a file imports, in whatever way, and the texts that name one."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.partition(".")[0])
        elif isinstance(node, ast.Call) and _name(node.func) in ("import_module", "require"):
            found |= {each.value for each in node.args[:1] if isinstance(each, ast.Constant)}
    return found


def _name(function: ast.expr) -> str:
    return getattr(function, "attr", None) or getattr(function, "id", "")


def test_only_these_files_import_what_unpickles() -> None:
    found = {file for file, tree in modules() if read_names(tree) & READERS}

    assert found == MAY_UNPICKLE


def test_only_these_files_ask_for_a_pickle_to_be_opened() -> None:
    found = {
        file
        for file, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr == "load_pickle"
    }

    assert found == MAY_ASK


@pytest.mark.parametrize("form", ["pickle", "joblib", "cloudpickle"])
def test_a_model_of_a_trusted_format_opens_no_pickle(form: str, tmp_path: Path) -> None:
    file = tmp_path / "model.pkl"
    file.write_bytes(b"never read")

    with pytest.raises(InvalidModel, match="--trust formats"):
        artefact.load_pickle(str(file), form, ModelSettings("m", "sklearn", trust="formats"))


def test_a_class_is_refused_before_it_is_imported(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("raise RuntimeError('it was imported')")
    settings = ModelSettings("m", "mine:Model", folder=str(tmp_path), trust="formats")

    with pytest.raises(InvalidModel, match="'m' is code: its implementation is 'mine:Model'"):
        create(settings)


def test_the_folder_of_a_trusted_format_is_not_searched_for_modules(tmp_path: Path) -> None:
    (tmp_path / "model.txt").write_text("tree")
    create(ModelSettings("m", "lightgbm", folder=str(tmp_path), trust="formats"))

    assert str(tmp_path) not in sys.path


def test_whatever_is_in_the_catalogue_says_whether_it_is_code(tmp_path: Path) -> None:
    pickled = {"pickle", "pytorch", "keras", "tensorflow", "spark"}
    for name in pickled:
        assert trust.why_code(ModelSettings("m", name, uri=str(tmp_path)))


UNPICKLES = """
import io, os, pickle, sys
from headrace.runtimes import trust
attack = type("Attack", (), {"__reduce__": lambda self: (os.mkdir, (sys.argv[1],))})()
plain, attack = pickle.dumps([1, "a", {"b": 2.0}]), pickle.dumps(attack)
trust.forbid_pickles()
assert pickle.loads(plain) == [1, "a", {"b": 2.0}]
readers = [pickle.loads, lambda raw: pickle._loads(raw)]
import cloudpickle, joblib
readers += [cloudpickle.loads, lambda raw: joblib.load(io.BytesIO(raw))]
for read in readers:
    try:
        read(attack)
    except Exception as error:
        assert "--trust formats" in str(error), error
    else:
        raise SystemExit(f"{read} ran code")
"""


def test_a_worker_that_trusts_formats_cannot_unpickle_whoever_asks(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    subprocess.run([sys.executable, "-c", UNPICKLES, str(mark)], check=True, timeout=120)

    assert not mark.exists()
