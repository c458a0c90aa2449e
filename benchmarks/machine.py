"""The machine and the versions of a run."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import headrace

PACKAGES = (
    "uvicorn", "uvloop", "httptools", "mlflow", "scikit-learn", "numpy", "pandas", "orjson",
    "msgspec", "pysimdjson",
)  # fmt: skip


def describe(root: Path, wrk: str) -> dict[str, Any]:
    """The machine, the versions and the commit, as they are now."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(root),
        "cpu": _field("/proc/cpuinfo", "model name") or platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_mb": int((_field("/proc/meminfo", "MemTotal") or "0 kB").split()[0]) // 1024,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "wrk": wrk,
        "versions": {"headrace": headrace.__version__, **_versions()},
    }


def load_average() -> list[float]:
    """Runnable processes over the last 1, 5 and 15 minutes."""
    return [round(value, 2) for value in os.getloadavg()]


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def commit(root: Path) -> str:
    """The commit that is checked out, marked if the files in src differ from it."""
    head = _git(root, "rev-parse", "--short=12", "HEAD")
    if not head:
        return "none"
    return f"{head} with changes" if _git(root, "status", "--porcelain", "src") else head


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=root, capture_output=True, text=True, timeout=20
        )
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _field(path: str, name: str) -> str:
    """The first value of `name` in a file of `name: value` lines."""
    if not Path(path).exists():
        return ""
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""
