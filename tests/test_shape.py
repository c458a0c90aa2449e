"""The shape of the repository: sizes, imports, names and links."""

from __future__ import annotations

import ast
import graphlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import headrace
from headrace.runtimes.catalog import RUNTIMES

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"
FOLDERS = ("src", "tests", "examples", "benchmarks", "compatibility", "docs", "changelog.d", ".ci")
SUFFIXES = {".py", ".md", ".toml", ".sh", ""}
LONGEST = 500
MARKER = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b")
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(\s*([^)\s]+)\s*\)")

# Loaded by `import headrace` alone, standard library included; numpy brings most of them.
MOST_MODULES = 300
# By the command line before the first worker starts; 213 on Python 3.11.
MOST_BEFORE_A_WORKER = 250
# What reads stored models, archives and records.
OF_STORES = ("headrace.store.store", "headrace.store.transfer", "tarfile", "yaml")
HEAVY = [
    *sorted({framework for entry in RUNTIMES for framework in entry.frameworks}),
    "pandas",
    "pyarrow",
    "starlette",
    "uvicorn",
    "grpc",
    "httpx",
    "msgspec",
    "orjson",
    "simdjson",
    "prometheus_client",
    "yaml",
]

WORKER_SIDE = (
    "errors",
    "settings",
    "model",
    "plugins.base",
    "protocol.bfloat16",
    "protocol.datatypes",
    "protocol.media_types",
    "protocol.tensor",
    "protocol.messages",
    "protocol.model_call",
    "protocol.mlflow.params",
    "protocol.mlflow.schema",
    "protocol.mlflow.signature",
    "codecs",
    "io",
    "runners",
    "services",
    "runtimes",
    "compat",
    "worker",
)
IMPORT_WORKER_SIDE = """
import importlib, sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ImportError("a worker may not need " + name)
BLOCKED = set(sys.argv[1].split())
sys.meta_path.insert(0, Blocker())
for name in sys.argv[2].split():
    importlib.import_module(name)
"""


# By `benchmarks.render`.
RENDERED = ROOT / "docs" / "benchmarks.md"


def hand_written() -> Iterator[Path]:
    yield from (path for path in ROOT.iterdir() if path.name in {"Makefile", "pyproject.toml"})
    yield from ROOT.glob("*.md")
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*"):
            # Caches and other folders that tools leave behind start with a dot or two underscores.
            inner = path.relative_to(ROOT / folder).parts
            is_tools = inner[0].startswith((".", "__")) or path == RENDERED
            if path.is_file() and path.suffix in SUFFIXES and not is_tools:
                yield path


def modules() -> dict[str, Path]:
    found = {}
    for path in (SOURCE / "headrace").rglob("*.py"):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(path: Path, known: dict[str, Path]) -> Iterator[str]:
    """Our modules that a file imports, also inside functions, but not only for types."""
    pending: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            continue
        pending += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module in known:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in known else node.module


def run(python: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [python, *arguments], env=environment, capture_output=True, text=True, timeout=100
    )


def worker_side() -> list[str]:
    names = tuple(f"headrace.{name}" for name in WORKER_SIDE)
    inner = tuple(f"{name}." for name in names)
    return sorted(
        name
        for name in modules()
        if (name in names or name.startswith(inner)) and not name.endswith("__main__")
    )


def test_no_hand_written_file_is_over_five_hundred_lines():
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for path in hand_written()
    }

    assert lengths
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST} == {}


def test_no_comment_marks_unfinished_work():
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in hand_written()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if MARKER.search(line)
    ]

    assert found == []


def test_a_file_name_has_one_meaning():
    # The names of MLServer's modules are those that its users import.
    mirrored = SOURCE / "headrace" / "compat" / "mlserver"
    seen: dict[str, list[str]] = {}
    for path in (SOURCE / "headrace").rglob("*.py"):
        if not path.name.startswith("__") and not path.is_relative_to(mirrored):
            seen.setdefault(path.name, []).append(str(path.relative_to(SOURCE)))
    assert {name: paths for name, paths in seen.items() if len(paths) > 1} == {}


def test_no_imports_are_circular():
    known = modules()
    graph = {name: set(imported(path, known)) - {name} for name, path in known.items()}

    assert any(graph.values())
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as exc:
        pytest.fail(" -> ".join(exc.args[1]))


def test_import_headrace_loads_no_framework_and_no_server():
    result = run(sys.executable, "-c", "import headrace, sys; print(*sys.modules)")

    assert result.returncode == 0, result.stderr
    loaded = result.stdout.split()
    assert [name for name in HEAVY if name in loaded] == []
    assert len(loaded) <= MOST_MODULES


def test_every_name_in_all_exists():
    assert [name for name in headrace.__all__ if not hasattr(headrace, name)] == []


def test_the_first_worker_starts_before_the_server_is_imported(tmp_path):
    program = """
import gc, sys
from headrace.cli.main import main
from headrace.executors import early_worker

def stop(*_):
    print(gc.isenabled(), *sys.modules)
    sys.exit()

early_worker.early_worker = stop
main(["serve", sys.argv[1]])
"""
    (tmp_path / "model-settings.json").write_text('{"name": "m", "implementation": "sklearn"}')
    result = run(sys.executable, "-c", program, str(tmp_path))

    assert result.returncode == 0, result.stderr
    collects, *loaded = result.stdout.split()
    later = {*HEAVY, *OF_STORES, "asyncio", "numpy", "headrace.server", "headrace.client"}
    assert (later - {"msgspec", "orjson"}) & set(loaded) == set()
    assert len(loaded) <= MOST_BEFORE_A_WORKER
    assert collects == "False"


def test_blas_is_told_not_to_spin_before_the_server_imports_it(tmp_path):
    program = """
import os, sys
from headrace.cli.main import main

os.environ.pop("OPENBLAS_THREAD_TIMEOUT", None)
sys.modules["headrace.server"] = None
try:
    main(["serve", sys.argv[1]])
except ImportError:
    print(os.environ["OPENBLAS_THREAD_TIMEOUT"], "numpy" in sys.modules)
"""
    (tmp_path / "model-settings.json").write_text('{"name": "m", "implementation": "mine:M"}')
    result = run(sys.executable, "-c", program, str(tmp_path))

    assert result.stdout.split() == ["16", "False"], result.stderr


def test_a_server_is_live_without_what_only_some_models_need_or_later_answers():
    result = run(sys.executable, "-c", "import headrace.server, sys; print(*sys.modules)")

    assert result.returncode == 0, result.stderr
    later = {"google.protobuf", "grpc", "packaging", "uv", "pandas", *OF_STORES}
    later |= {"headrace.codecs", "headrace.runtimes.mlflow", "headrace.worker.host"}
    assert later & set(result.stdout.split()) == set()


def test_what_a_worker_imports_needs_numpy_only():
    blocked = [*HEAVY, "uvloop", "httptools", "python_multipart", "scipy"]

    result = run(
        sys.executable, "-c", IMPORT_WORKER_SIDE, " ".join(blocked), " ".join(worker_side())
    )

    assert result.returncode == 0, result.stderr


def test_a_worker_entry_point_starts_where_only_numpy_is_installed():
    program = IMPORT_WORKER_SIDE + "import runpy; sys.argv[1:] = ['--help']\n"
    program += "runpy.run_module('headrace.worker', run_name='__main__')"

    result = run(sys.executable, "-c", program, " ".join(HEAVY), "headrace.worker")

    assert result.returncode == 0, result.stderr
    assert "--fd" in result.stdout


@pytest.fixture(scope="module")
def python39(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Python 3.9 with numpy and nothing else; skips if none can be made."""
    found = [shutil.which("python3.9") or "", "/usr/bin/python3.9"]
    found += map(str, Path.home().glob(".pyenv/versions/3.9.*/bin/python3.9"))
    base = next((path for path in found if path and is_usable(path)), None)
    if base is None:
        pytest.skip("no Python 3.9 with venv on this machine")
    folder = tmp_path_factory.mktemp("python39")
    run(base, "-m", "venv", str(folder))
    python = str(folder / "bin" / "python")
    result = run(python, "-m", "pip", "install", "--quiet", "numpy")
    if result.returncode != 0:
        pytest.skip("numpy for Python 3.9 cannot be installed")
    return python


def is_usable(python: str) -> bool:
    try:
        return run(python, "-c", "import ensurepip, venv").returncode == 0
    except OSError:
        return False


def test_what_a_worker_imports_runs_on_python_39(python39):
    result = run(python39, "-c", IMPORT_WORKER_SIDE, "", " ".join(worker_side()))

    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(path, id=str(path.relative_to(ROOT)))
        for path in sorted(hand_written())
        if path.suffix == ".md"
    ],
)
def test_every_link_of_a_page_leads_somewhere(page):
    links = [link.partition("#")[0] for link in LINK.findall(page.read_text(encoding="utf-8"))]
    local = [link for link in links if link and not re.match(r"[a-z]+:", link)]

    assert [link for link in local if not (page.parent / link).exists()] == []


def test_no_command_of_a_page_hides_why_it_failed():
    # `-s` without `-S` is silent about a server that does not answer, `-f` about what it says.
    hiding = re.compile(r"\bcurl (?:\S+ )*?-(?:[a-zA-Z]*f|(?![a-zA-Z]*S)[a-zA-Z]*s)[a-zA-Z]*\b")
    found = [
        f"{path.relative_to(ROOT)}: {line}"
        for path in hand_written()
        if path.suffix == ".md"
        for line in path.read_text(encoding="utf-8").splitlines()
        if hiding.search(line)
    ]

    assert found == []
    assert hiding.search("curl -sf http://x")
    assert not hiding.search("curl -sS http://x")


@pytest.mark.parametrize(
    "page",
    ["README.md", *sorted(f"docs/how-to/{path.name}" for path in ROOT.glob("docs/how-to/*.md"))],
)
def test_a_command_asks_for_a_model_that_its_page_or_the_readme_names(page):
    asked = re.compile(r"/v2/(?:repository/)?models/([\w.-]+)|headrace infer .*?-m ([\w-]+)")
    text = (ROOT / page).read_text(encoding="utf-8")
    rest = asked.sub("", text)

    names = {first or second for first, second in asked.findall(text)} - {"NAME", "wine-quality"}
    assert [name for name in sorted(names) if not re.search(rf"\b{re.escape(name)}\b", rest)] == []
