"""The catalogue of runtimes: what is derived from a row, and what has to agree with it."""

from __future__ import annotations

import ast
import pkgutil
import re
import sys
import tomllib
import types
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace.environments import need
from headrace.errors import InvalidModel, MissingDependency
from headrace.model import Model
from headrace.runtimes import artefact, catalog, create, own_modules
from headrace.runtimes.catalog import MLFLOW, RUNTIMES, RuntimeEntry
from headrace.runtimes.mlflow import native_flavors
from headrace.runtimes.mlflow.mlflow_folder import MLflowFolder
from headrace.settings import ModelSettings

ROOT = Path(__file__).parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]
REFERENCE = ROOT / "docs/reference/frameworks.md"

each_runtime = pytest.mark.parametrize("entry", RUNTIMES, ids=[entry.name for entry in RUNTIMES])


def table() -> str:
    """The table of runtimes for the reference."""
    rows = [
        "| `implementation` | MLServer's names | MLflow flavors served natively | install |",
        "|---|---|---|---|",
    ]
    for entry in RUNTIMES:
        flavors = [loader.removeprefix("mlflow.") for loader in entry.mlflow_readers]
        cells = [[entry.name], entry.mlserver_aliases, flavors, [f"headrace[{entry.extra}]"]]
        written = [", ".join(f"`{word}`" for word in words) or "-" for words in cells]
        rows.append(f"| {' | '.join(written)} |")
    return "\n".join(rows)


def pages() -> Iterator[tuple[str, str]]:
    """The paths and texts of the files that mention runtimes and extras by name."""
    paths = [ROOT / "pyproject.toml", ROOT / "README.md"]
    for folder, pattern in [("docs", "*.md"), ("examples", "*.md"), ("examples", "*settings.json")]:
        paths += (ROOT / folder).rglob(pattern)
    for path in paths:
        yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")


def extras_in(extra: str) -> set[str]:
    """The extras of this package that an extra installs, itself included."""
    found = {extra}
    for requirement in EXTRAS[extra]:
        for listed in re.findall(r"^headrace\[([\w,-]+)\]", requirement):
            for name in listed.split(","):
                found |= extras_in(name)
    return found


def test_the_catalogue_imports_only_the_standard_library_and_the_settings() -> None:
    tree = ast.parse(Path(catalog.__file__).read_text(encoding="utf-8"))
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module)

    assert imported - sys.stdlib_module_names == {"headrace.settings"}


@each_runtime
def test_the_class_of_a_row_is_a_model_even_where_its_framework_is_missing(
    entry: RuntimeEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    for framework in entry.frameworks:
        monkeypatch.setitem(sys.modules, framework, None)

    assert issubclass(pkgutil.resolve_name(entry.class_path), Model)


def test_no_two_runtimes_share_a_name() -> None:
    counted = Counter(name for entry in RUNTIMES for name in (*entry.names, entry.class_path))

    shared = [name for name, times in counted.items() if times > 1]
    assert shared == [], "each name may be in only one row of the catalogue"


def test_each_loader_of_mlflow_has_one_reader_that_exists() -> None:
    readers = [reader for entry in RUNTIMES for reader in entry.mlflow_readers.items()]

    assert len({loader for loader, _ in readers}) == len(readers)
    assert all(callable(pkgutil.resolve_name(reader)) for _, reader in readers)


def test_a_new_row_is_served_without_another_edit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Kite(Model):
        pass

    kites: Any = types.ModuleType("kites")
    kites.Kite, kites.read = Kite, lambda folder, pyfunc: native_flavors.Native(str)
    monkeypatch.setitem(sys.modules, "kites", kites)
    row = RuntimeEntry(
        name="kite",
        class_path="kites:Kite",
        extra="kites",
        frameworks=("kite_framework",),
        code_in="kites:code_in",
        mlserver_aliases=("mlserver_kite.KiteModel",),
        mlflow_readers={"mlflow.kite": "kites:read"},
        module_folders=lambda settings: [settings.folder],
    )
    monkeypatch.setattr(catalog, "RUNTIMES", (*RUNTIMES, row))
    (tmp_path / "beside.py").write_text("")
    (tmp_path / "MLmodel").write_text("flavors: {python_function: {loader_module: mlflow.kite}}")
    saved = ModelSettings("m", "mlflow", uri=str(tmp_path))

    for name in row.names:
        settings = ModelSettings("m", name, folder=str(tmp_path))
        assert type(create(settings)) is Kite
        assert list(own_modules(settings)) == ["beside"]
    assert need.of_model(saved).native
    assert native_flavors.load(MLflowFolder(saved)) == native_flavors.Native(str)
    with pytest.raises(MissingDependency, match=r"pip install 'headrace\[kites\]'"):
        artefact.require("kite_framework", "kite")
    with pytest.raises(InvalidModel, match=r"neither a runtime \(.*, kite\)"):
        create(ModelSettings("m", "unknown"))


@pytest.mark.parametrize("implementation", [*MLFLOW.names, MLFLOW.class_path])
def test_a_model_needs_what_reads_mlmodel_however_its_runtime_is_named(
    tmp_path: Path, implementation: str
) -> None:
    (tmp_path / "MLmodel").write_text("flavors: {}")

    assert need.of_model(ModelSettings("m", implementation, uri=str(tmp_path))).installed() == [
        "numpy",
        *MLFLOW.requirements,
    ]


@each_runtime
def test_the_extra_of_a_row_is_in_pyproject(entry: RuntimeEntry) -> None:
    assert entry.extra in EXTRAS, (
        f"add the extra '{entry.extra}' to [project.optional-dependencies] of pyproject.toml"
    )


@each_runtime
def test_the_extra_of_a_row_is_installed_for_the_tests(entry: RuntimeEntry) -> None:
    assert entry.extra in extras_in("test-runtimes"), (
        f"add '{entry.extra}' to the extra 'test-runtimes' of pyproject.toml, or to 'test'"
    )


@each_runtime
def test_the_frameworks_of_a_row_are_kept_out_of_the_front_process(entry: RuntimeEntry) -> None:
    contracts = {each["name"]: each for each in PROJECT["tool"]["importlinter"]["contracts"]}
    forbidden = contracts["the front process imports no model framework"]["forbidden_modules"]

    missing = set(entry.frameworks) - set(forbidden)
    assert not missing, (
        f"add {sorted(missing)} to forbidden_modules of the contract "
        "'the front process imports no model framework' in pyproject.toml"
    )


def test_the_reference_has_the_table_of_the_catalogue() -> None:
    page = REFERENCE.read_text(encoding="utf-8")

    assert table() in page, (
        f"replace the table of runtimes in {REFERENCE.relative_to(ROOT)} with:\n\n{table()}\n"
    )


@each_runtime
def test_the_readme_names_the_extra_of_a_row(entry: RuntimeEntry) -> None:
    install = (ROOT / "README.md").read_text().partition("\n## Install\n")[2].partition("\n## ")[0]

    assert f"`{entry.extra}`" in install, f"add `{entry.extra}` to README.md, under Install"


def test_every_name_of_mlserver_in_pages_and_examples_is_in_the_catalogue() -> None:
    mentioned = [
        (page, name)
        for page, text in pages()
        for name in re.findall(r"\bmlserver_\w+(?:\.\w+)*\.[A-Z]\w+", text)
    ]

    assert mentioned
    unknown = [each for each in mentioned if catalog.find(each[1]) is None]
    assert unknown == [], "correct these pages, or add the names to a row's mlserver_aliases"


def test_every_extra_that_pages_and_pyproject_mention_exists() -> None:
    mentioned = [
        (page, extra)
        for page, text in pages()
        for listed in re.findall(r"\bheadrace\[([\w,-]+)\]", text)
        for extra in listed.split(",")
    ]

    assert mentioned
    unknown = [each for each in mentioned if each[1] not in EXTRAS]
    assert unknown == [], "correct these files, or add the extras to pyproject.toml"


@pytest.mark.parametrize(
    ("implementation", "advice"),
    [
        ("mlserver-mllib.MLlibModel", "write 'mlserver_mllib.MLlibModel' or 'spark'"),
        ("mlserver_alibi_detect.AlibiDetectRuntime", "Alibi are not supported.*custom runtime"),
        ("mlserver-alibi-explain.AlibiExplainRuntime", "Alibi are not supported.*custom runtime"),
    ],
)
def test_a_name_of_mlserver_that_is_none_here_is_told_what_to_write(implementation, advice):
    with pytest.raises(InvalidModel, match=advice):
        create(ModelSettings("m", implementation))
