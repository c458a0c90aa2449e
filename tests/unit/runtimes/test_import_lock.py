"""Threads that import at the same time, in separate interpreters."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

MEET = """
import threading
both = threading.Barrier(2)

def meet():
    # Whether two threads are here at the same time.
    try:
        both.wait(2)
    except threading.BrokenBarrierError:
        return False
    return True
"""


def run(folder: Path, body: str) -> str:
    """Standard output of a script that has `install`, `together` and the modules of a folder."""
    (folder / "meeting.py").write_text(MEET)
    script = f"""
import sys, threading
sys.path.insert(0, {str(folder)!r})
import meeting
from headrace.runtimes.import_lock import IMPORTS, ImportLock, install

def together(*functions):
    results = {{}}
    def record(function):
        try:
            results[function] = function()
        except BaseException as error:
            results[function] = error
    threads = [threading.Thread(target=record, args=(each,)) for each in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    print([results[each] for each in functions])

{textwrap.dedent(body)}
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def write_pair(folder: Path) -> None:
    """Two modules that know whether they were imported at the same time."""
    for name in ("a", "b"):
        (folder / f"{name}.py").write_text("from meeting import meet\nmet = meet()\n")


STATEMENTS = """
together(lambda: __import__("a").met, lambda: __import__("b").met)
"""
FUNCTION_AND_PICKLE = r"""
import importlib, pickle
together(lambda: importlib.import_module("a").met, lambda: pickle.loads(b"cb\nmet\n."))
"""


@pytest.mark.parametrize("imports", [STATEMENTS, FUNCTION_AND_PICKLE])
def test_without_the_lock_two_threads_import_at_the_same_time(tmp_path: Path, imports: str) -> None:
    write_pair(tmp_path)

    assert run(tmp_path, imports) == "[True, True]"


@pytest.mark.parametrize("imports", [STATEMENTS, FUNCTION_AND_PICKLE])
def test_only_one_thread_imports_at_a_time_in_any_way(tmp_path: Path, imports: str) -> None:
    write_pair(tmp_path)

    assert run(tmp_path, f"install()\n{imports}") == "[False, False]"


def test_an_import_that_waits_for_an_importing_thread_ends(tmp_path: Path) -> None:
    (tmp_path / "starts.py").write_text(
        "import threading\n"
        "thread = threading.Thread(target=lambda: [__import__('one'), __import__('other')])\n"
        "thread.start()\nthread.join()\nname = 'starts'\n"
    )
    (tmp_path / "one.py").touch()
    (tmp_path / "other.py").touch()
    body = """
    IMPORTS._patience = 0.1
    install()
    together(lambda: __import__("starts").name)
    """

    assert run(tmp_path, body) == "['starts']"


def test_an_import_that_is_stuck_is_waited_for_once(tmp_path: Path) -> None:
    # Each of its threads imports something, and the import waits for all of them in turn.
    (tmp_path / "stuck.py").write_text(
        "import threading\n"
        "for name in ('one', 'two', 'three'):\n"
        "    thread = threading.Thread(target=__import__, args=(name,))\n"
        "    thread.start()\n    thread.join()\n"
    )
    for name in ("one", "two", "three"):
        (tmp_path / f"{name}.py").touch()
    body = """
    waits = []
    real = IMPORTS._lock
    class Lock:
        def acquire(self, **options):
            if options.get("timeout"):
                waits.append(options["timeout"])
            return real.acquire(**options)
        def release(self):
            real.release()
    IMPORTS._lock, IMPORTS._patience = Lock(), 0.1
    install()
    thread = threading.Thread(target=__import__, args=("stuck",))
    thread.start()
    thread.join()
    print(len(waits) - 1)
    """

    # The first wait is that of the import itself, which nothing holds up.
    assert run(tmp_path, body) == "1"


def test_the_lock_does_not_show_in_tracebacks(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import missing_module\n")
    body = """
    import traceback
    install()
    try:
        import broken
    except ModuleNotFoundError:
        print("import_lock" in traceback.format_exc())
    """

    assert run(tmp_path, body) == "False"


def test_the_main_thread_does_not_wait_for_others(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text("import meeting\nmeeting.inside.set()\nmeeting.go.wait(60)\n")
    (tmp_path / "quick.py").touch()
    body = """
    install()
    meeting.inside, meeting.go = threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: __import__("slow"))
    thread.start()
    meeting.inside.wait(60)
    import quick
    print(thread.is_alive())
    meeting.go.set()
    """

    assert run(tmp_path, body) == "True"


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_a_child_that_is_forked_while_a_thread_imports_can_import(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text("import meeting\nmeeting.inside.set()\nmeeting.go.wait(60)\n")
    (tmp_path / "quick.py").touch()
    body = """
    import os
    install()
    IMPORTS._patience = 600
    meeting.inside, meeting.go = threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: __import__("slow"))
    thread.start()
    meeting.inside.wait(60)
    def child():
        __import__("quick")
        os._exit(7)
    def fork():
        pid = os.fork()
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) if pid else together(child)
    together(fork)
    meeting.go.set()
    """

    assert run(tmp_path, body) == "[7]"
