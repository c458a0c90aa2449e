"""systemd: a unit for a server that runs without a container.

Sources: systemd.service(5), systemd.exec(5), systemd.resource-control(5).
"""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from headrace.deploy import checks, mounted_files
from headrace.deploy.workload import (
    MARGIN,
    Options,
    Workload,
    bundle_folder,
    find,
    require_tracking,
)
from headrace.errors import ConfigurationError, shorten
from headrace.sources.service_source import reference_of

# The status with which a server ends whose settings are wrong: starting it again changes nothing.
WRONG_SETTINGS = 2
WATCHDOG = "30s"
HOMES = ("/home", "/root", "/run/user")
# The server has its own, which are empty.
TEMPORARY = ("/tmp", "/var/tmp")

UNIT = """\
[Unit]
Description=Headrace serves {description}
Documentation=man:systemd.service(5)
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=300
StartLimitBurst=5

[Service]
Type=notify
ExecStart={command}
{environment}
# The models may be fetched, and their environments built, before the server is ready.
TimeoutStartSec={start}
# Requests in flight may finish.
TimeoutStopSec={stop}
KillMode=mixed
WatchdogSec={watchdog}
Restart=on-failure
RestartSec=2
RestartPreventExitStatus={wrong}

# A user that exists while the server runs, and a folder that is kept.
DynamicUser=yes
StateDirectory={name}
{folder}{credentials}UMask=0077
LimitNOFILE=65536
{resources}
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome={homes}
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectControlGroups=yes
ProtectProc=invisible
RestrictAddressFamilies=AF_INET AF_INET6 AF_NETLINK AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
# Not MemoryDenyWriteExecute, since frameworks compile code while they run.

[Install]
WantedBy=multi-user.target
"""


def unit(source: str, options: Options, program: str | None = None) -> tuple[Workload, str]:
    """The unit that serves SOURCE with `program`, by default the one of this Python.

    Raises:
        ConfigurationError: SOURCE cannot be served so, or a flag is missing or wrong.
    """
    program = program or str(Path(sys.executable).with_name("headrace"))
    if not os.path.isabs(program):
        raise ConfigurationError(
            f"--program: expected an absolute path, as systemd does, got '{shorten(program)}'"
        )
    workload = find(source, options, "none", keeps_home=True)
    require_tracking(workload)
    place, folder = _place(source, workload)
    paths = [place, folder, program]
    files = dict(mounted_files.named(workload))
    if any(path.endswith("\\") for path in (*paths, source, *files.values())):
        raise ConfigurationError(
            "systemd joins a line that ends with \\ with the next; rename what has one at its end"
        )
    settings = workload.settings
    start = settings.fetch_timeout + settings.environment_timeout + settings.load_timeout
    stop = settings.drain_delay + settings.drain_timeout + MARGIN
    variables = {"HOME": "%S/" + workload.name, "HEADRACE_HOME": "%S/" + workload.name}
    given = {name: _literal(value) for name, value in options.env.items()}
    # A user that exists only while the server runs can read no file that others may not: systemd
    # hands it a copy.
    given |= {f"HEADRACE_{name.upper()}": f"%d/{name}" for name in files}
    text = UNIT.format(
        description=_literal(workload.source),
        # systemd replaces variables in arguments, but not in the program.
        command=" ".join(map(_quoted, (_literal(program), "serve", _argument(place)))),
        environment="\n".join(
            f"Environment={_quoted(pair)}"
            for pair in (f"{name}={value}" for name, value in {**variables, **given}.items())
        ),
        start=math.ceil(start),
        stop=math.ceil(stop),
        watchdog=WATCHDOG,
        wrong=WRONG_SETTINGS,
        name=workload.name,
        folder=f"WorkingDirectory={_literal(folder)}\n" if folder else "",
        credentials="".join(
            # What follows the colon is the path, whatever is in it.
            f"LoadCredential={name}:{_literal(os.path.abspath(path))}\n"
            for name, path in files.items()
        ),
        resources="\n".join(_resources(options)),
        homes="read-only" if any(_is_below(HOMES, path) for path in paths) else "yes",
    )
    hidden = [
        f"the server does not see {path}: it has a {top} of its own (PrivateTmp), and the system "
        "clears it; move it elsewhere first"
        for path in dict.fromkeys(paths)
        for top in TEMPORARY
        if _is_below([top], path)
    ]
    workload = replace(workload, notes=(*workload.notes, *hidden))
    return workload, re.sub(r"\n{3,}", "\n\n", text)


def _place(source: str, workload: Workload) -> tuple[str, str]:
    """What `serve` gets, and the folder that it runs in; "" for the root."""
    if workload.kind == "uri":
        return source, ""
    if workload.kind == "model" or (workload.kind == "service" and len(workload.models) > 1):
        raise ConfigurationError(
            f"'{shorten(source)}' needs models of your own store, which a service of systemd does "
            "not read; `headrace build` packs them into a bundle, which it does"
        )
    if workload.kind == "bundle":
        return str(bundle_folder(source).resolve()), ""
    reference = reference_of(source)
    if reference is None:
        return str(Path(source).resolve()), ""
    # A service is named relative to its folder, from which it may import more.
    module = reference.module
    if not module.count(".") and (reference.folder / f"{module}.py").is_file():
        module += ".py"
    named = f"{module}:{reference.attribute}" if reference.attribute else module
    return named, str(reference.folder)


def _resources(options: Options) -> Sequence[str]:
    """Limits, where they are asked for: a machine of its own needs none."""
    lines = []
    if options.cpu is not None:
        lines.append(f"CPUQuota={math.ceil(100 * checks.cores(options.cpu))}%")
    if options.memory is not None:
        lines.append(f"MemoryMax={checks.size(options.memory)}")
    return lines


def _is_below(folders: Sequence[str], path: str) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)


def _literal(text: str) -> str:
    """Text in which systemd finds no specifiers."""
    return text.replace("%", "%%")


def _argument(text: str) -> str:
    """An argument of a command, in which it finds no variables either."""
    return _literal(text).replace("$", "$$")


def _quoted(text: str) -> str:
    """One word, whatever is in it."""
    if re.fullmatch(r"[A-Za-z0-9_./:=%@,+-]+", text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
