"""Environments built by the real uv from wheels made here, and unpacked tarballs."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import textwrap
import venv
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from headrace.environments import build, child
from headrace.environments.environments import Environments
from headrace.environments.need import RUNNING
from headrace.errors import LoadFailed
from headrace.settings import ModelSettings, ServerSettings
from support.serving import until
from support.wheels import FAKE_NUMPY, make_wheel, offline, uv_that_waits


@pytest.fixture(autouse=True)
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only packages there are: a numpy that can be imported, and `small`."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    make_wheel(folder, "numpy", "9.9", FAKE_NUMPY)
    make_wheel(folder, "small", "1.0", "value = 1")
    make_wheel(folder, "small", "2.0", "value = 2")
    make_wheel(folder, "needy", "1.0", requires=["small<2"])
    for name, value in offline(folder).items():
        monkeypatch.setenv(name, value)
    return folder


@pytest.fixture
def no_children(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Once called, starting a program fails."""

    async def run(*_: object) -> None:
        raise AssertionError("a program was started")

    return lambda: monkeypatch.setattr(child, "run", run)


def settings(tmp_path: Path, **given: Any) -> ServerSettings:
    return ServerSettings(environments_dir=str(tmp_path / "environments"), **given)


def model(*packages: str, name: str = "m", **given: Any) -> ModelSettings:
    environment = {"packages": list(packages)} if packages else {}
    return ModelSettings(name, "x:Y", **{"environment": environment, **given})


def with_environments(
    chosen: ServerSettings, test: Callable[[Environments], Awaitable[None]]
) -> None:
    async def main() -> None:
        environments = Environments(chosen)
        try:
            await asyncio.wait_for(test(environments), 90)
        finally:
            await environments.close()

    asyncio.run(main())


def built(chosen: ServerSettings, wanted: ModelSettings, progress: Any = lambda _: None) -> str:
    """The interpreter for one model, of a server that ends afterwards."""
    found: list[str] = []

    async def test(environments: Environments) -> None:
        found.append(await environments.python_for(wanted, progress))

    with_environments(chosen, test)
    return found[0]


def says(python: str, expression: str) -> str:
    program = f"import small; print({expression})"
    return subprocess.run([python, "-c", program], capture_output=True, text=True).stdout.strip()


def folders(tmp_path: Path) -> list[str]:
    """What is on the shelf besides locks and the cache."""
    shelf = tmp_path / "environments"
    return sorted({p.stem for p in shelf.glob("*") if p.suffix != ".lock" and p.name != "cache"})


def test_a_model_gets_the_versions_it_asks_for(tmp_path: Path) -> None:
    first = built(settings(tmp_path), model("small==1.0"))
    second = built(settings(tmp_path), model("small>=2"))

    assert (says(first, "small.value"), says(second, "small.value")) == ("1", "2")


def test_models_with_the_same_needs_share_one(tmp_path: Path) -> None:
    chosen = settings(tmp_path)

    first = built(chosen, model("small==1.0", "numpy", name="a"))
    second = built(chosen, model("numpy", "small==1.0", name="b"))

    assert first == second
    assert len(folders(tmp_path)) == 1


def test_the_second_start_runs_no_program(tmp_path: Path, no_children: Callable[[], None]) -> None:
    chosen = settings(tmp_path)
    first = built(chosen, model("small==1.0"))
    no_children()

    second = built(chosen, model("small==1.0"))

    assert second == first


def test_what_the_server_has_is_not_built(tmp_path: Path, no_children: Callable[[], None]) -> None:
    no_children()

    assert built(settings(tmp_path), model("numpy>=1", "msgspec")) == sys.executable
    assert built(settings(tmp_path), model()) == sys.executable


def test_local_never_builds_and_says_what_is_lacking(
    tmp_path: Path, no_children: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    no_children()

    assert built(settings(tmp_path, env_manager="local"), model("small==1.0")) == sys.executable
    assert "lacks what the model asks for ('small==1.0')" in caplog.text


def test_uv_builds_for_every_model_that_states_a_need(tmp_path: Path) -> None:
    chosen = settings(tmp_path, env_manager="uv")

    assert built(chosen, model("numpy")) != sys.executable
    assert built(chosen, model()) == sys.executable


def test_another_python_is_found(tmp_path: Path) -> None:
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    minors = {path.name.rpartition(".")[0] for path in root.glob("versions/3.*.*")}
    others = sorted(minors & {"3.9", "3.10", "3.12", "3.13"} - {RUNNING})
    if not others:
        pytest.skip("pyenv has no other Python on this machine")
    wanted = model(environment={"packages": ["small"], "python": others[0]})

    python = built(settings(tmp_path), wanted)

    assert says(python, "'%d.%d' % __import__('sys').version_info[:2]") == others[0]


def test_an_mlflow_models_own_files_are_built(tmp_path: Path, wheels: Path) -> None:
    make_wheel(wheels, "pyyaml", "1.0")
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "MLmodel").write_text("flavors: {python_function: {loader_module: mlflow.sklearn}}")
    (folder / "requirements.txt").write_text("mlflow==0.0.1; python_version < '3'\nsmall==1.0\n")
    (folder / "python_env.yaml").write_text("dependencies: [-r requirements.txt]")

    python = built(settings(tmp_path), ModelSettings("m", "mlflow", uri=str(folder)))

    assert says(python, "small.value") == "1"
    assert says(python, "__import__('pyyaml').__name__") == "pyyaml"


def test_a_local_wheel_and_constraints_are_installed(tmp_path: Path, wheels: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    make_wheel(own, "local", "1.0", requires=["small"])
    (own / "limits.txt").write_text("small<2\n")
    (own / "requirements.txt").write_text("./local-1.0-py3-none-any.whl\n-c limits.txt\n")
    wanted = model(environment={"requirements": str(own / "requirements.txt")})

    python = built(settings(tmp_path), wanted)

    assert says(python, "(small.value, __import__('local').__name__)") == "(1, 'local')"


def test_progress_is_reported(tmp_path: Path) -> None:
    progress: list[str] = []

    built(settings(tmp_path), model("small==1.0"), progress.append)

    assert progress[0] == "preparing its environment"
    assert any(line.startswith("Installed 2 packages") for line in progress)
    assert not any(str(tmp_path) in line for line in progress)


def test_a_failed_resolution_is_explained_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(LoadFailed) as failure:
        built(settings(tmp_path), model("needy", "small==2.0"))

    message = failure.value.message
    assert message.startswith("model 'm': its requirements could not be installed: No solution")
    assert "needy" in message
    assert "environment.requirements" in message
    assert str(tmp_path) not in message
    assert folders(tmp_path) == []


def test_after_a_failure_the_next_attempt_builds(tmp_path: Path, wheels: Path) -> None:
    async def test(environments: Environments) -> None:
        with pytest.raises(LoadFailed):
            await environments.python_for(model("late"), print)
        make_wheel(wheels, "late", "1.0")

        assert await environments.python_for(model("late"), print) != sys.executable

    with_environments(settings(tmp_path), test)


def test_an_index_out_of_reach_is_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("UV_NO_INDEX", "UV_OFFLINE", "UV_FIND_LINKS"):
        monkeypatch.delenv(name)
    with socket.socket() as taken:
        # Bound but not listening, so that nobody answers there.
        taken.bind(("127.0.0.1", 0))
        index = f"http://127.0.0.1:{taken.getsockname()[1]}/simple"
        monkeypatch.setenv("UV_DEFAULT_INDEX", index)
        monkeypatch.setenv("UV_HTTP_RETRIES", "0")

        with pytest.raises(LoadFailed, match=r"installed: .*Failed to fetch: .*Connection refused"):
            built(settings(tmp_path), model("small==1.0"))


def test_a_python_that_is_nowhere_is_a_clear_error(tmp_path: Path) -> None:
    wanted = model(environment={"python": "3.99"})

    with pytest.raises(
        LoadFailed, match=r"no environment of Python 3\.99 could be made: .*; environment\.python"
    ):
        built(settings(tmp_path), wanted)


def test_a_build_that_takes_too_long_is_ended(tmp_path: Path, monkeypatch: Any) -> None:
    slow = uv_that_waits(tmp_path)
    monkeypatch.setattr(build.uv, "find_uv_bin", lambda: str(slow))

    with pytest.raises(LoadFailed, match=r"within 1 s; --environment-timeout allows more"):
        built(settings(tmp_path, environment_timeout=1.0), model("small==1.0"))

    assert folders(tmp_path) == []
    assert running(slow) == []


def running(program: Path) -> list[str]:
    found = list(Path("/proc").glob("[0-9]*/cmdline"))
    return [path.parent.name for path in found if os.fsencode(program) in read(path)]


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_the_same_need_twice_at_once_is_built_once(tmp_path: Path, monkeypatch: Any) -> None:
    counting = uv_that_waits(tmp_path)
    (tmp_path / "go").touch()
    monkeypatch.setattr(build.uv, "find_uv_bin", lambda: str(counting))

    async def test(environments: Environments) -> None:
        names = [environments.python_for(model("small", name=n), print) for n in "abc"]
        assert len(set(await asyncio.gather(*names))) == 1

    with_environments(settings(tmp_path), test)
    assert (tmp_path / "calls").read_text().split() == ["venv", "pip"]


def test_two_servers_at_once_build_once(tmp_path: Path, monkeypatch: Any) -> None:
    counting = uv_that_waits(tmp_path)
    monkeypatch.setattr(build.uv, "find_uv_bin", lambda: str(counting))
    progress: list[str] = []

    async def test(first: Environments) -> None:
        second = Environments(settings(tmp_path))
        builder = asyncio.create_task(first.python_for(model("small"), print))
        while not (tmp_path / "calls").exists():
            await asyncio.sleep(0.01)
        waiter = asyncio.create_task(second.python_for(model("small"), progress.append))
        while "waiting for another process to build its environment" not in progress:
            await asyncio.sleep(0.01)
        (tmp_path / "go").touch()

        assert await builder == await waiter
        await second.close()

    with_environments(settings(tmp_path), test)
    assert (tmp_path / "calls").read_text().split() == ["venv", "pip"]


def test_a_build_ends_when_everybody_who_waits_has_left(tmp_path: Path, monkeypatch: Any) -> None:
    slow = uv_that_waits(tmp_path)
    monkeypatch.setattr(build.uv, "find_uv_bin", lambda: str(slow))

    async def test(environments: Environments) -> None:
        loads = [
            asyncio.create_task(environments.python_for(model("small", name=n), print))
            for n in "ab"
        ]
        while not running(slow):
            await asyncio.sleep(0.01)
        loads[0].cancel()
        await asyncio.wait([loads[0]])
        assert running(slow)

        loads[1].cancel()
        await asyncio.wait([loads[1]])
        assert running(slow) == []
        assert folders(tmp_path) == []

        (tmp_path / "go").touch()
        assert says(await environments.python_for(model("small"), print), "small.value") == "2"

    with_environments(settings(tmp_path), test)


BUILDER = """
import asyncio, sys
from headrace import keeper
from headrace.environments import build
from headrace.environments.environments import Environments
from headrace.settings import ModelSettings, ServerSettings
build.uv.find_uv_bin = lambda: sys.argv[2]
# As on a machine without a shell, where nobody ends the build with its server.
keeper.SHELL = "/nowhere"
environments = Environments(ServerSettings(environments_dir=sys.argv[1]))
settings = ModelSettings("m", "x:Y", environment={"packages": ["small"]})
print(asyncio.run(environments.python_for(settings, print)))
"""


def test_what_a_killed_build_left_is_never_used_and_its_uv_is_waited_for(
    tmp_path: Path, monkeypatch: Any
) -> None:
    slow = uv_that_waits(tmp_path)
    command = [sys.executable, "-c", BUILDER, str(tmp_path / "environments"), str(slow)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        until((tmp_path / "calls").exists, 20, "uv runs")
        server.send_signal(signal.SIGKILL)
    progress: list[str] = []

    async def test(environments: Environments) -> None:
        load = asyncio.create_task(environments.python_for(model("small"), progress.append))
        # The orphan still holds the lock.
        while "waiting for another process to build its environment" not in progress:
            await asyncio.sleep(0.01)
        (tmp_path / "go").touch()
        python = await load
        assert says(python, "small.value") == "2"

    with_environments(settings(tmp_path), test)
    assert len(folders(tmp_path)) == 1


def test_half_an_environment_is_built_again(tmp_path: Path) -> None:
    python = Path(built(settings(tmp_path), model("small")))
    python.parents[1].with_suffix(".json").unlink()
    shutil.rmtree(next(python.parents[1].glob("lib/python3.*/site-packages/small")))

    assert says(built(settings(tmp_path), model("small")), "small.value") == "2"


def test_an_environment_removed_by_hand_comes_back(tmp_path: Path) -> None:
    async def test(environments: Environments) -> None:
        python = await environments.python_for(model("small"), print)
        shutil.rmtree(Path(python).parents[1])

        assert says(await environments.python_for(model("small"), print), "small.value") == "2"

    with_environments(settings(tmp_path), test)


def test_a_folder_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    chosen = ServerSettings(environments_dir=str(tmp_path / "file" / "below"))

    with pytest.raises(LoadFailed, match=r"Not a directory; --environments-dir chooses another"):
        built(chosen, model("small"))


def test_an_existing_environment_is_used_as_it_is(tmp_path: Path) -> None:
    python = bare(tmp_path / "mine", numpy=True)

    assert built(settings(tmp_path), model(environment_path=str(tmp_path / "mine"))) == python
    assert built(settings(tmp_path), model(environment_path=sys.prefix)) == sys.executable


def test_an_existing_environment_that_cannot_serve_is_refused(tmp_path: Path) -> None:
    bare(tmp_path / "bare", numpy=False)
    (tmp_path / "broken/bin").mkdir(parents=True)
    (tmp_path / "broken/bin/python").touch(mode=0o755)

    for name, message in {
        "bare": "'bare': numpy, which every worker needs, cannot be imported there",
        "broken": "'broken': its Python does not run",
        "none": "'none' has no bin/python",
    }.items():
        with pytest.raises(LoadFailed, match=f"model 'm': environment_path {message}"):
            built(settings(tmp_path), model(environment_path=str(tmp_path / name)))


def bare(folder: Path, numpy: bool, copies: bool = False) -> str:
    venv.create(folder, symlinks=not copies)
    if numpy:
        (next(folder.glob("lib/python*/site-packages")) / "numpy.py").write_text(FAKE_NUMPY)
    return str(folder / "bin" / "python")


def packed(folder: Path, script: str = "") -> Path:
    """A tarball of an environment, as conda-pack makes it."""
    bare(folder, numpy=True, copies=True)
    if script:
        (folder / "bin/conda-unpack").write_text(textwrap.dedent(script))
    file = folder.with_suffix(".tar.gz")
    with tarfile.open(file, "w:gz") as tar:
        for path in sorted(folder.iterdir()):
            tar.add(path, path.name)
    return file


UNPACK = """
import pathlib, sys
pathlib.Path(sys.prefix, "unpacked").write_text(sys.prefix)
"""


def test_a_tarball_is_unpacked_once_and_adapted_to_its_folder(
    tmp_path: Path, no_children: Callable[[], None]
) -> None:
    wanted = model(environment_tarball=str(packed(tmp_path / "e", UNPACK)))

    python = built(settings(tmp_path), wanted)
    no_children()

    assert built(settings(tmp_path), wanted) == python
    folder = Path(python).parents[1]
    assert (folder / "unpacked").read_text() == str(folder)


def test_a_tarball_is_read_again_only_when_its_time_or_size_has_changed(tmp_path: Path) -> None:
    file = packed(tmp_path / "e")
    wanted = model(environment_tarball=str(file))
    python = built(settings(tmp_path), wanted)
    seen = file.stat()
    file.write_bytes(bytes(seen.st_size))
    os.utime(file, ns=(seen.st_mtime_ns, seen.st_mtime_ns))

    assert built(settings(tmp_path), wanted) == python

    os.utime(file)
    with pytest.raises(LoadFailed, match="has no bin/python"):
        built(settings(tmp_path), wanted)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "environment_tarball 'e.tar.gz': it is damaged, ends too early or is not an archive"),
        (b"\x1f\x8b damaged", "environment_tarball 'e.tar.gz': it is damaged or not a tar archive"),
        (b"PK\x03\x04", "environment_tarball 'e.tar.gz': it is a zip file"),
    ],
)
def test_a_refused_tarball_leaves_nothing(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "e.tar.gz").write_bytes(content)

    with pytest.raises(LoadFailed, match=f"model 'm': {message}"):
        built(settings(tmp_path), model(environment_tarball=str(tmp_path / "e.tar.gz")))

    assert folders(tmp_path) == []


def test_a_tarball_whose_conda_unpack_fails_leaves_nothing(tmp_path: Path) -> None:
    wanted = model(environment_tarball=str(packed(tmp_path / "e", "raise SystemExit(7)")))

    with pytest.raises(LoadFailed, match="its conda-unpack failed with status 7"):
        built(settings(tmp_path), wanted)

    assert folders(tmp_path) == []


def test_a_tarball_that_is_missing_is_named(tmp_path: Path) -> None:
    wanted = model(environment_tarball=str(tmp_path / "none.tar.gz"))

    with pytest.raises(LoadFailed, match=r"'none\.tar\.gz' cannot be read: No such file"):
        built(settings(tmp_path), wanted)
