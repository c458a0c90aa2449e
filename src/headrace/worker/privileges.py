"""What a worker gives up before it imports anything else: see `headrace.executors.confinement`.

Standard library only, and a program of its own, which tries whether the system allows it.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import os
import socket
import struct
import sys
from contextlib import suppress

PR_SET_NO_NEW_PRIVS = 38
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 0x1
# A core file has at least this many bytes, and Linux writes none where fewer are allowed. It hands
# cores to a program in spite of a limit of 0, but not in spite of this one.
NO_CORE = 1


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--memory-limit", type=int, help="most bytes of data of the process")
    parser.add_argument("--no-network", action="store_true", help="no network but a loopback")
    parser.add_argument("--only-formats", action="store_true", help="unpickle nothing")


def drop(command: list[str]) -> None:
    """Give up what the flags of a command say, and what no worker needs.

    To be called before there is a second thread.

    Raises:
        OSError: the system does not allow it.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    add_flags(parser)
    flags, _ = parser.parse_known_args(command)
    _limit_core()
    if flags.no_network:
        leave_network()
    if flags.memory_limit is not None:
        _limit_memory(flags.memory_limit)
    if sys.platform == "linux":
        _libc().prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def leave_network() -> None:
    """Leave every network but a loopback of this process's own; open sockets stay connected.

    Raises:
        OSError: the system does not allow it.
    """
    if sys.platform != "linux":
        raise OSError("only Linux has network namespaces")
    user, group = os.geteuid(), os.getegid()
    if _libc().unshare(CLONE_NEWNET) != 0:
        # What this process has no privilege for is allowed in a user namespace.
        if _libc().unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0:
            raise OSError(f"the kernel refuses a namespace: {os.strerror(ctypes.get_errno())}")
        for name, text in [
            ("setgroups", "deny"),
            ("uid_map", f"{user} {user} 1"),
            ("gid_map", f"{group} {group} 1"),
        ]:
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(text)
    # Models talk to their own programs by it.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(sock, SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | IFF_UP))


def _limit_core() -> None:
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    limit = NO_CORE if most == resource.RLIM_INFINITY else min(NO_CORE, most)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (limit, limit))


def _limit_memory(limit: int) -> None:
    """Bound the private, writable memory of the process; files that it maps do not count."""
    import resource

    kind = resource.RLIMIT_DATA if sys.platform == "linux" else resource.RLIMIT_AS
    resource.setrlimit(kind, (limit, limit))


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


if __name__ == "__main__":
    try:
        drop(sys.argv[1:])
    except OSError as error:
        sys.exit(str(error))
