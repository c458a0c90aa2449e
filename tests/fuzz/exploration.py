"""Runs the targets with atheris, each in a process with a bound on time and memory."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from fuzz.decoders import TARGETS

CORPUS = Path(__file__).parent / "corpus"
ROOT = Path(__file__).parents[2]
AT_ONCE = 2
# In memory, where the system has a folder there: some targets write a file for each input.
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
# The bars for one execution, and for the process with all that it has imported.
MOST_SECONDS = 1
MOST_MIB = 512
LONGEST_INPUT = 4096
# Of the corpus that is kept, for each target: bytes of an input, and inputs.
LARGEST_KEPT, MOST_KEPT = 512, 24

_RUNS = re.compile(r"stat::number_of_executed_units:\s*(\d+)")
_PEAK = re.compile(r"stat::peak_rss_mb:\s*(\d+)")
_SLOWEST = re.compile(r"stat::slowest_unit_time_sec:\s*(\d+)")


class Explored(NamedTuple):
    """What became of one target: how often it ran, and the input and the end of its log if it
    failed."""

    target: str
    runs: int
    peak_mib: int
    slowest_seconds: int
    finding: str = ""
    input: bytes = b""


def explore(name: str, seconds: int, seed: int, kept: Path = CORPUS) -> Explored:
    """Explore one target from the corpus that is kept and its seeds."""
    with tempfile.TemporaryDirectory(prefix="headrace-fuzz-", dir=MEMORY) as folder:
        return _explore(name, seconds, seed, Path(folder), kept / name)


def explore_all(names: Sequence[str], seconds: int, seed: int) -> Iterator[Explored]:
    """Explore several targets."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield from pool.map(lambda name: explore(name, seconds, seed), names)


def keep(name: str, seconds: int, seed: int) -> int:
    """Keep the smallest inputs that brought something new, beside those kept; returns how many."""
    kept = CORPUS / name
    with tempfile.TemporaryDirectory(prefix="headrace-fuzz-", dir=MEMORY) as folder:
        found = _explore(name, seconds, seed, Path(folder), kept)
        if found.finding:
            raise RuntimeError(f"{name}: {found.finding}")
        new = [
            each for each in Path(folder, "new").iterdir() if each.stat().st_size <= LARGEST_KEPT
        ]
        kept.mkdir(parents=True, exist_ok=True)
        for each in sorted(new, key=lambda each: each.stat().st_size)[:MOST_KEPT]:
            # libFuzzer names a file by the hash of its content.
            shutil.copyfile(each, kept / f"{each.name[:12]}.bin")
    everything = sorted(kept.iterdir(), key=lambda each: each.stat().st_size)
    for each in everything[MOST_KEPT:]:
        each.unlink()
    return min(len(everything), MOST_KEPT)


def _explore(name: str, seconds: int, seed: int, folder: Path, kept: Path) -> Explored:
    new, seeds = folder / "new", folder / "seeds"
    new.mkdir()
    seeds.mkdir()
    target = TARGETS[name]
    for number, content in enumerate(target.seeds):
        (seeds / f"{number}").write_bytes(content)
    flags = [f"-max_total_time={seconds}", f"-seed={seed}", "-print_final_stats=1"]
    flags += [f"-artifact_prefix={folder}/finding-", f"-max_len={LONGEST_INPUT}"]
    if target.words:
        (folder / "words").write_text("".join(map(_escaped, target.words)))
        flags.append(f"-dict={folder / 'words'}")
    corpora = [new, seeds, *([kept] if kept.is_dir() else [])]
    done = subprocess.run(
        _command(name, corpora, flags),
        env={**_environment(), "TMPDIR": str(folder)},
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=3 * seconds + 120,
    )
    log = done.stdout.decode(errors="replace")
    inputs = sorted(folder.glob("finding-*"))
    finding = ""
    if done.returncode or inputs:
        finding = f"exit code {done.returncode}\n{log[-4000:]}"
    counts = [int((pattern.findall(log) or ["0"])[-1]) for pattern in (_RUNS, _PEAK, _SLOWEST)]
    return Explored(name, *counts, finding, inputs[0].read_bytes() if inputs else b"")


def _command(name: str, corpora: Sequence[Path], flags: Sequence[str]) -> list[str]:
    # libFuzzer counts whole seconds, and ends a run that takes more than these.
    limits = [f"-timeout={MOST_SECONDS}", f"-rss_limit_mb={MOST_MIB}"]
    command = [sys.executable, "-m", "fuzz.explore", name, *map(str, corpora)]
    return [*command, *limits, *flags]


def _environment() -> dict[str, str]:
    paths = os.pathsep.join([str(ROOT / "tests"), str(ROOT)])
    return {**os.environ, "PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1"}


def _escaped(word: bytes) -> str:
    """A line of libFuzzer's dictionaries."""
    return '"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n'
