"""A machine that is short of something, and output that nobody reads"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from support.asking import ask, connect, numbers
from support.custom import write_model
from support.fault_table import fault
from support.serving import until
from support.stage import Stage

FAST = "time.sleep(0.002)\nreturn x * 2"
LOAD = "/v2/repository/models/{}/load"
START = 60.0
DISK = 8 << 20
# A descriptor limit that idle connections reach, and how many of them come.
DESCRIPTORS, CONNECTIONS = 256, 400
# The clock of the system, ahead by as many seconds as a file says.
CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long ahead(void) {
  char text[32] = {0};
  int fd = open(CLOCK_FILE, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  long size = read(fd, text, sizeof text - 1);
  close(fd);
  return size > 0 ? atol(text) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *found) {
  static int (*real)(clockid_t, struct timespec *);
  if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
  int status = real(clock, found);
  if (clock == CLOCK_REALTIME) found->tv_sec += ahead();
  return status;
}

time_t time(time_t *found) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (found) *found = now.tv_sec;
  return now.tv_sec;
}

int gettimeofday(struct timeval *found, void *zone) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  found->tv_sec = now.tv_sec;
  found->tv_usec = now.tv_nsec / 1000;
  return 0;
}
"""


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A disk of 8 MiB; skips where none can be mounted."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, timeout=20)
    except OSError as error:
        pytest.skip(f"no small disk can be mounted: {error}")
    if done.returncode:
        pytest.skip(f"no small disk can be mounted: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True, timeout=20)


def filled(file: Path) -> None:
    """Write a file until the disk is full."""
    with file.open("wb", buffering=0) as out:
        for size in (1 << 20, 4096, 1):
            try:
                while out.write(bytes(size)) == size:
                    pass
            except OSError:
                continue


@fault(
    "disk-full",
    promise="While the disk of the log and of temporary files is full, the server serves, loads "
    "and refuses as before; what it could not log is lost.",
    bar="50 times, 0 failed, nothing left on the disk but the log",
    each=0.4,
)
def test_a_full_disk_stops_nothing(stage: Stage) -> None:
    folder = write_model(stage.folder, FAST, row_independent=True)

    def fill() -> None:
        filled(disk / "filler")
        assert ask(server.http, "POST", "/v2/models/nobody/infer", numbers(1)).status == 404
        assert ask(server.http, "POST", LOAD.format("m"), {}).status == 200
        large = ask(server.http, "POST", "/v2/models/m/infer", numbers(*range(100_000)))
        assert large.status == 200
        (disk / "filler").unlink()

    with small_disk(stage.folder / "disk") as disk:
        env = {"TMPDIR": str(disk), "HEADRACE_HOME": str(disk / "home")}
        python = stage.python_with(redirected=f"2>> {disk}/log")
        with stage.serving(folder, env=env, python=python) as server:
            stage.repeat(server, fill)
        left = [path for path in disk.rglob("*") if path.is_file() and path.name != "log"]
        assert left == []


@fault(
    "clock-jumps",
    promise="A clock that jumps by hours, forwards and back, ends no wait and delays none.",
    bar="50 jumps, 0 failed",
    each=0.4,
)
def test_a_clock_that_jumps_by_an_hour_costs_nobody_an_answer(stage: Stage) -> None:
    if (compiler := shutil.which("cc")) is None:
        pytest.skip("a clock that jumps is compiled, and there is no C compiler")
    source, library, clock = (stage.folder / name for name in ("clock.c", "clock.so", "clock"))
    source.write_text(CLOCK)
    clock.write_text("0")
    define = f'-DCLOCK_FILE="{clock}"'
    command = [compiler, "-shared", "-fPIC", define, "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True, timeout=60)
    now = "return np.array([time.time()])"
    write_model(stage.folder, FAST, row_independent=True)
    write_model(stage.folder, now, name="now")
    dice = random.Random(0)

    def server_time() -> float:
        answer = ask(server.http, "POST", "/v2/models/now/infer", numbers(1))
        return float(answer.json["outputs"][0]["data"][0])

    def jump() -> None:
        before = server_time()
        by = dice.choice((-3600, 3600))
        clock.write_text(str(int(clock.read_text()) + by))
        assert abs(server_time() - before - by) < 1800, "the clock has jumped"

    with stage.serving(stage.folder, env={"LD_PRELOAD": str(library)}) as server:
        stage.repeat(server, jump, "m")


@fault(
    "descriptors-used-up",
    promise="While idle connections use up the descriptors, who is connected is served, and a "
    "worker that dies comes back; when they have gone, everybody gets in.",
    bar="50 times, 0 failed, health answered",
    each=1.0,
)
def test_connections_that_use_up_the_descriptors_stop_nothing(stage: Stage) -> None:
    folder = write_model(stage.folder, FAST, row_independent=True)

    def use_up() -> None:
        with ExitStack() as stack:
            for number in range(CONNECTIONS):
                url = server.http if number % 2 else f"http://{server.announced['grpc']}"
                stack.enter_context(connect(url))
            (pid,) = until(server.workers, START, "a worker is up")
            os.kill(pid, signal.SIGKILL)
            until(lambda: server.workers() not in ([], [pid]), START, "the next one is up")
        assert ask(server.http, "GET", "/v2/health/live").status == 200

    python = stage.python_with(f"ulimit -n {DESCRIPTORS}")
    with stage.serving(folder, python=python) as server:
        stage.repeat(server, use_up, may=["shut out"])


@fault(
    "output-closed",
    promise="A server whose standard output and error nobody reads any more serves on.",
    bar="50 times, 0 failed",
    each=1.6,
)
def test_a_server_whose_output_is_closed_serves_on(stage: Stage) -> None:
    folder = write_model(stage.folder, "print(x, flush=True)\n" + FAST, row_independent=True)
    python = stage.python_with(redirected="1> >(exec true) 2> >(exec true)")
    counted: dict[str, int] = {"requests": 0, "failed": 0}
    for _ in range(stage.times):
        with stage.serving(folder, python=python) as server:
            with stage.under_load(server) as load:
                ask(server.http, "POST", "/v2/models/nobody/infer", numbers(1))
                (pid,) = until(server.workers, START, "a worker is up")
                os.kill(pid, signal.SIGKILL)
                load.wait_answers(20)
            for name in counted:
                counted[name] += stage.load[name]
    stage.load.update(counted)


@fault(
    "flood",
    promise="A model that prints a gigabyte neither fills a disk nor holds anybody up: what is "
    "beyond a megabyte at once is dropped, and a line says how much.",
    bar="1 GB printed, 0 failed, health within 100 ms",
    each=0.3,
)
def test_a_model_that_prints_a_gigabyte_holds_nobody_up(stage: Stage) -> None:
    prints = "for _ in range(20): print('x' * 1_000_000)\nreturn x"
    write_model(stage.folder, FAST, row_independent=True)
    write_model(stage.folder, prints, name="prints")

    def flood() -> None:
        assert ask(server.http, "POST", "/v2/models/prints/infer", numbers(1)).status == 200

    with stage.serving(stage.folder) as server:
        stage.repeat(server, flood, "m")
        logged = len(server.log()) / 1e6
    stage.record(printed=f"{stage.times * 20} MB", logged=f"{logged:.1f} MB")
    assert logged < 20 + stage.times
