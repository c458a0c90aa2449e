"""Ends what models and builds have started when the server is gone, however that ended.

The kernel ends the workers with the server, but not what runs in their process groups, nor the
programs that build environments. Nothing that is killed can clean up after itself, so a shell of a
few hundred kilobytes waits for the server's end. Standard library only, as for all that starts the
first worker.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import threading

logger = logging.getLogger("headrace.keeper")

SHELL = "/bin/sh"
# How much more expendable than the server the shell is, in thousandths of all memory. When a worker
# has been killed because memory ran out, the kernel may look for a second process to kill while the
# first still gives its memory back. If that was the only one, the server and the shell are left.
# So the shell goes before a server of up to this size, but after a worker that is not much smaller.
MORE_EXPENDABLE, MOST_EXPENDABLE = 400, 1000
# Each line adds a process group or takes one away. At the end of its input, the server is gone.
SCRIPT = """
groups=
while read -r sign group; do
    case $sign in
        +) groups="$groups $group" ;;
        -) left=
           for each in $groups; do [ "$each" = "$group" ] || left="$left $each"; done
           groups=$left ;;
    esac
done
for each in $groups; do kill -s KILL -- "-$each" 2>/dev/null; done
"""


class Keeper:
    """The process groups that end with this process. Thread-safe.

    There is a shell for as long as there are groups. Without a shell on the machine, what a model
    or a build started goes on if the server is killed.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._groups: set[int] = set()
        self._shell: subprocess.Popen[bytes] | None = None

    def add(self, group: int) -> None:
        """End a process group with this process."""
        with self._lock:
            self._groups.add(group)
            self._tell(b"+ %d\n" % group)

    def remove(self, group: int) -> None:
        """Forget a process group that has ended, since others may get its number."""
        with self._lock:
            self._groups.discard(group)
            if self._groups:
                self._tell(b"- %d\n" % group)
            else:
                self._end()

    def _tell(self, line: bytes) -> None:
        if self._shell is not None and not self._wrote(line):
            # Something has killed or stopped it.
            self._end()
        if self._shell is None:
            try:
                self._start()
            except OSError as error:
                logger.debug(
                    "what models and builds start outlives this server if it is killed: %s", error
                )

    def _start(self) -> None:
        # In a session of its own, so that it outlives what is sent to the server's group. It needs
        # no variables, and nobody should take it for a worker.
        self._shell = subprocess.Popen(
            [SHELL, "-c", SCRIPT, "headrace-keeper"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={},
            cwd="/",
            start_new_session=True,
        )
        assert self._shell.stdin is not None, "it is a pipe"
        self._make_expendable(self._shell.pid)
        os.set_blocking(self._shell.stdin.fileno(), False)
        self._wrote(b"".join(b"+ %d\n" % group for group in self._groups))

    def _make_expendable(self, pid: int) -> None:
        """Have the kernel end the shell before this process. Source: proc(5)."""
        with contextlib.suppress(OSError, ValueError):
            with open(f"/proc/{pid}/oom_score_adj") as score:
                inherited = int(score.read())
            with open(f"/proc/{pid}/oom_score_adj", "w") as score:
                score.write(str(min(MOST_EXPENDABLE, inherited + MORE_EXPENDABLE)))

    def _wrote(self, data: bytes) -> bool:
        assert self._shell is not None, "it has been started"
        assert self._shell.stdin is not None, "it is a pipe"
        try:
            return os.write(self._shell.stdin.fileno(), data) == len(data)
        except OSError:
            return False

    def _end(self) -> None:
        """End the shell before its input ends, at which it would end the groups it knows."""
        shell, self._shell = self._shell, None
        if shell is not None:
            shell.kill()
            shell.wait()
            if shell.stdin is not None:
                with contextlib.suppress(OSError):
                    shell.stdin.close()


# One for each process, as what it is about is the end of the process.
keeper = Keeper()
