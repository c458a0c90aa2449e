"""Real images, built by buildah from a base that mmdebstrap makes; no registry, no index."""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support.serving import COMMAND
from support.wheels import wheelhouse

ROOT = Path(__file__).parents[2]
# Made once per machine and kept between runs; git ignores it.
KEPT = ROOT / ".venv-images"
BASE = "localhost/headrace-base"
SUITE = "bookworm"
PYTHON = (3, 11)
PACKAGES = "python3,python3-venv,ca-certificates"
TOOLS = ("buildah", "mmdebstrap", "unshare", "chroot")
TIMEOUT = 900
# What the images of the tests install, from the environment that runs the tests.
INSTALLED = ("headrace[mlflow,pickle,sklearn,xgboost]", "pip", "setuptools", "wheel")


def environment() -> dict[str, str]:
    """The variables with which buildah works in a container too, in a storage of its own."""
    return {
        **os.environ,
        "BUILDAH_ISOLATION": "chroot",
        "CONTAINERS_STORAGE_CONF": str(KEPT / "storage.conf"),
        "STORAGE_DRIVER": "vfs",
    }


def prepare() -> None:
    """Make the base image and the wheels, unless they are there; skips where that is impossible."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"not installed here: {', '.join(missing)}")
    if os.geteuid() != 0:
        pytest.skip("only root can make a base image and start one without a container engine")
    if sys.version_info[:2] != PYTHON:
        pytest.skip("the base image has Python 3.11, and the wheels are those of this Python")
    KEPT.mkdir(exist_ok=True)
    with (KEPT / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (KEPT / "storage.conf").write_text(
            f'[storage]\ndriver = "vfs"\ngraphroot = "{KEPT}/storage"\nrunroot = "{KEPT}/run"\n'
        )
        _make_base()
        wheelhouse(KEPT / "wheels", *INSTALLED)


def clean() -> None:
    """Remove all images but the base."""
    for image in json.loads(buildah("images", "--json")):
        if f"{BASE}:latest" not in (image.get("names") or ()):
            buildah("rmi", "--force", image["id"])


def build(
    source: Path | str,
    tag: str,
    *arguments: object,
    command: str = "build",
    builder: str = "buildah",
) -> str:
    """Build an image as `headrace build` does, and return the output."""
    # buildah reads it from its environment, and podman keeps a copy of the whole image per line.
    podman = ["--isolation=chroot", "--layers=false"]
    options = [*_options(), *(podman if builder == "podman" else [])]
    # A bundle has its base image already.
    base = ["--base-image", BASE] if command == "build" else []
    done = subprocess.run(
        [*COMMAND, command, str(source), "-t", tag, "--builder", builder, *base,
         *(f"--build-option={option}" for option in options), *map(str, arguments)],
        env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, timeout=TIMEOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout


def build_from_dockerfile(folder: Path, tag: str) -> None:
    """Build an image as `docker build -t TAG FOLDER` does."""
    buildah("build", *_options(), "-t", tag, str(folder))


def _options() -> list[str]:
    """What gives a build the wheels, instead of an index."""
    configuration = KEPT / "pip.conf"
    configuration.write_text("[global]\nno-index = true\nfind-links = /wheels\n")
    return [f"--volume={KEPT}/wheels:/wheels:ro", f"--secret=id=pip-conf,src={configuration}"]


def buildah(*arguments: str) -> str:
    """What a command of buildah prints."""
    done = subprocess.run(
        ["buildah", *arguments], env=environment(), capture_output=True, text=True, timeout=TIMEOUT
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip()


def configuration(image: str) -> dict[str, Any]:
    """What the image says about how it is started."""
    found: dict[str, Any] = json.loads(buildah("inspect", "--type=image", image))
    docker: dict[str, Any] = found["Docker"]["config"]
    return docker


@contextmanager
def started(image: str, env: Mapping[str, str]) -> Iterator[Container]:
    """The image as its configuration says, as its user, on a root that cannot be written to."""
    with unpacked(image) as root, running(root, configuration(image), env) as container:
        yield container


@contextmanager
def unpacked(image: str) -> Iterator[Path]:
    """The root of the image, which any number of containers may share, for it is read-only."""
    name = buildah("from", "--pull-never", image)
    try:
        yield Path(buildah("mount", name))
    finally:
        buildah("umount", name)
        buildah("rm", name)


@contextmanager
def running(
    root: Path,
    config: dict[str, Any],
    env: Mapping[str, str],
    mounts: Mapping[str, Path] | None = None,
) -> Iterator[Container]:
    """A container that sees each folder, read-only, at the path that is its key."""
    container = Container(root, config, env, mounts or {})
    try:
        yield container
    finally:
        container.close()


class Container:
    """A process in the file system of an image, in a mount namespace of its own.

    As Kubernetes' restricted pods, it has no capabilities and can get none.
    """

    # No shell reads what follows the script.
    _SCRIPT = """
    set -eu
    root=$1; user=${2%:*}; group=${2#*:}; shift 2
    mount --rbind /proc "$root/proc"
    mount --rbind /dev "$root/dev"
    mount -t tmpfs tmpfs "$root/tmp"
    mount --bind "$root" "$root"
    mount -o remount,bind,ro "$root"
    mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
    mount --rbind /proc "$root/proc"
    mount --rbind /dev "$root/dev"
    MOUNTS
    exec chroot "$root" setpriv --reuid="$user" --regid="$group" --clear-groups \\
      --bounding-set=-all --inh-caps=-all --no-new-privs "$@"
    """

    def __init__(
        self,
        root: Path,
        config: dict[str, Any],
        env: Mapping[str, str],
        mounts: Mapping[str, Path],
    ) -> None:
        self.config = config
        self.announced: dict[str, str] = {}
        self._log = KEPT / f"log-{os.getpid()}-{root.parent.name}"
        ready, ready_fd = os.pipe()
        self._ready = ready
        variables = dict(pair.split("=", 1) for pair in config["Env"])
        variables |= {"HEADRACE_READY_FD": str(ready_fd), **env}
        self._variables = variables
        directory = ["/usr/bin/env", "-C", config["WorkingDir"]]
        command = [*directory, *(config["Entrypoint"] or []), *(config["Cmd"] or [])]
        self._made = [made for target in mounts for made in _made(root / target.lstrip("/"))]
        script = self._SCRIPT.replace("MOUNTS", "\n".join(_mounting(root, mounts)))
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                ["unshare", "--mount", "--propagation=private", "sh", "-c", script, "sh",
                 str(root), config["User"], *command],
                pass_fds=[ready_fd], env=variables, stdin=subprocess.DEVNULL,
                stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
        os.close(ready_fd)

    def privileges(self) -> dict[str, str]:
        """What /proc says about the rights of the server, such as `CapEff` and `NoNewPrivs`."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}

    def run(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Run a program next to it, as its user and with its variables."""
        user, _, group = self.config["User"].partition(":")
        inside = ["nsenter", f"--target={self.process.pid}", "--mount", "--root", "--wd=/"]
        return subprocess.run(
            [*inside, f"--setuid={user}", f"--setgid={group}", *command],
            env=self._variables, capture_output=True, text=True, timeout=60,
        )  # fmt: skip

    def log(self) -> str:
        """All that it wrote so far."""
        return self._log.read_text(errors="replace")

    def wait_ready(self) -> str:
        """The URL that it listens on, once it is ready and has `announced` its addresses."""
        with os.fdopen(self._ready) as ready:
            line = ready.readline()
        assert line, self.log()
        found = json.loads(line).items()
        self.announced = {name: str(url).replace("0.0.0.0", "127.0.0.1") for name, url in found}
        return self.announced["http"]

    def close(self) -> None:
        """End it, however it is."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._log.unlink()
        # The next container of the same root must not see them.
        for folder in reversed(self._made):
            folder.rmdir()


def _made(place: Path) -> list[Path]:
    """The folders that were missing up to `place`, outermost first; now they are there."""
    missing = [folder for folder in (place, *place.parents) if not folder.exists()][::-1]
    place.mkdir(parents=True, exist_ok=True)
    return missing


def _mounting(root: Path, mounts: Mapping[str, Path]) -> Iterator[str]:
    """Lines of a script that mount each folder, read-only."""
    for target, folder in mounts.items():
        place = shlex.quote(str(root / target.lstrip("/")))
        yield f"mount --bind {shlex.quote(str(folder))} {place}"
        yield f"mount -o remount,bind,ro {place}"


def _make_base() -> None:
    done = subprocess.run(
        ["buildah", "inspect", "--type=image", BASE], env=environment(), capture_output=True
    )
    if done.returncode == 0:
        return
    folder = KEPT / "base"
    folder.mkdir(exist_ok=True)
    archive = folder / "base.tar"
    if not archive.exists():
        draft = folder / "draft.tar"
        made = subprocess.run(
            ["mmdebstrap", "--mode=root", "--variant=minbase", f"--include={PACKAGES}", SUITE,
             str(draft)],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT,
        )  # fmt: skip
        if made.returncode != 0:
            pytest.skip(f"no base image can be made here: {made.stderr[-300:]}")
        draft.rename(archive)
    (folder / "Dockerfile").write_text("FROM scratch\nADD base.tar /\n")
    buildah("build", "--format=docker", f"--tag={BASE}", str(folder))
