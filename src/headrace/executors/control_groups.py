"""The control groups that this process is in, as folders with their files.

Sources: proc(5), cgroups(7) and, in the kernel's documentation, "Control Group v2" and, of version
1, "CFS Bandwidth Control" and "Memory Resource Controller".
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path


def folders(controller: str, root: Path = Path("/")) -> Iterator[Path]:
    """The folders of all groups that limit this process, of both versions, innermost first.

    `controller` is its name in version 1, such as `cpu`. A limit of any of these groups applies.
    Yields nothing where there are no control groups, or where they cannot be read.
    """
    with contextlib.suppress(OSError):
        groups = _groups(controller, (root / "proc/self/cgroup").read_text())
        for line in (root / "proc/self/mountinfo").read_text().splitlines():
            about, _, kind = line.partition(" - ")
            mounted, place = about.split()[3:5]
            file_system, _, options = kind.split()[:3]
            if file_system == "cgroup2":
                group = groups.get("")
            elif file_system == "cgroup" and controller in options.split(","):
                group = groups.get(controller)
            else:
                continue
            if group is not None:
                yield from _from_inside(root / place.lstrip("/"), _below(mounted, group))


def _groups(controller: str, text: str) -> dict[str, str]:
    """The path of the group in the controller's hierarchy, and under "" that of version 2."""
    groups = {}
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        for name in {"", controller}.intersection(controllers.split(",")):
            groups[name] = path
    return groups


def _below(mounted: str, group: str) -> str:
    """The path of a group in a mount of which `mounted` is the root.

    In a container the mount often is the container's own group, and the path is that on the host.
    """
    prefix = mounted.rstrip("/") + "/"
    return group[len(prefix) :] if group.startswith(prefix) else ""


def _from_inside(top: Path, group: str) -> Iterator[Path]:
    folder = top / group
    while folder != top and top in folder.parents:
        yield folder
        folder = folder.parent
    yield top
