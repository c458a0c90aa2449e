"""What a worker is given and what it may do: its variables, its limits, its user, its network.

Standard library only: the first worker starts before the server has imported itself.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

import headrace
from headrace.errors import ConfigurationError
from headrace.settings import ServerSettings

PRIVILEGES = Path(headrace.__file__).with_name("worker") / "privileges.py"
# Seconds; it takes some milliseconds.
PROBE_TIMEOUT = 30.0

# Variables of the server's own whose names promise a secret. No model has a use for them.
_OWN_SECRETS = re.compile(
    r"(?:HEADRACE|MLSERVER)_(?!MODEL_)\w*(?:KEY|SECRET|TOKEN|PASSWORD|PASSPHRASE|CREDENTIAL)\w*"
)
# What a worker gets where `--worker-env` names its variables: where programs and libraries are,
# how much they compute with, and what describes models. These are shell patterns.
USUAL = (
    *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "LC_*", "TZ", "TERM", "TMPDIR"),
    *("LD_LIBRARY_PATH", "PYTHON*", "VIRTUAL_ENV", "SSL_CERT_*", "JAVA_HOME", "MALLOC_*"),
    *("OMP_*", "GOMP_*", "KMP_*", "MKL_*", "OPENBLAS_*", "BLIS_*", "NUMEXPR_*", "VECLIB_*"),
    *("*_NUM_THREADS", "CUDA_*", "NVIDIA_*", "ROCR_*", "HIP_*", "KERAS_BACKEND"),
    *("HEADRACE_HOME", "HEADRACE_BUNDLE", "HEADRACE_MODEL_*", "MLSERVER_MODEL_*"),
    *("MLFLOW_ALLOW_*", "PREDICTIVE_UNIT_PARAMETERS"),
)


@dataclass(frozen=True)
class Confinement:
    """The bounds of a worker.

    With `named`, it gets the variables that match these patterns and `USUAL`; without, all but the
    server's secrets. `memory_limit` is in bytes. With `only_formats`, it unpickles nothing. With
    `only_trusted`, it finds no modules in the working directory, and nothing on the Hugging Face
    Hub.
    """

    only_formats: bool = False
    only_trusted: bool = False
    named: tuple[str, ...] = ()
    has_network: bool = True
    uid: int | None = None
    memory_limit: int | None = None

    @classmethod
    def of(cls, settings: ServerSettings) -> Confinement:
        """The bounds that the server's settings set for every worker."""
        return cls(
            only_formats=settings.trust == "formats",
            only_trusted=settings.trust != "any",
            named=settings.worker_env,
            has_network=settings.worker_network == "host",
            uid=settings.worker_uid,
        )

    @property
    def is_set(self) -> bool:
        """Whether somebody asked for bounds that a model inside the server would not have."""
        return bool(self.only_formats or self.named or not self.has_network or self.uid is not None)

    def variables(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Those of these environment variables that a worker gets."""
        own = {name: text for name, text in environ.items() if not _OWN_SECRETS.fullmatch(name)}
        if self.named or self.only_formats:
            wanted = (*USUAL, *self.named)
            own = {
                name: text
                for name, text in own.items()
                if any(fnmatchcase(name, pattern) for pattern in wanted)
            }
        if self.only_trusted:
            own |= {"PYTHONSAFEPATH": "1", "HF_HUB_OFFLINE": "1"}
        return own

    def flags(self) -> list[str]:
        """What `worker/privileges.py` reads of the worker's command line."""
        flags = [] if self.has_network else ["--no-network"]
        if self.memory_limit is not None:
            flags += ["--memory-limit", str(self.memory_limit)]
        return [*flags, "--only-formats"] if self.only_formats else flags


def unset(settings: ServerSettings, environ: Mapping[str, str]) -> list[str]:
    """The variables that workers are to get, and that the server does not have itself."""
    return [
        name for name in settings.worker_env if not set(name) & set("*?[") and name not in environ
    ]


def check(settings: ServerSettings) -> None:
    """Find out whether this machine can confine workers as the settings ask.

    Raises:
        ConfigurationError: it cannot; the message says why and names the flag.
    """
    bounds = Confinement.of(settings)
    if settings.parallel_workers <= 0 and replace(bounds, only_formats=False).is_set:
        raise ConfigurationError(
            "--worker-env, --worker-network and --worker-uid are for workers, and "
            "--parallel-workers is 0"
        )
    if settings.worker_uid is not None and os.geteuid() != 0:
        raise ConfigurationError("--worker-uid needs a server that root has started")
    user = settings.worker_uid
    if user is None and bounds.has_network:
        return
    try:
        done = subprocess.run(
            [sys.executable, "-I", str(PRIVILEGES), *bounds.flags()],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PROBE_TIMEOUT,
            text=True,
            user=user,
            group=user,
            extra_groups=None if user is None else [],
        )
    except PermissionError:
        raise ConfigurationError(
            f"--worker-uid {user}: that user may not run {sys.executable}, as workers do"
        ) from None
    if done.returncode:
        why = done.stderr.strip().rpartition("\n")[2]
        raise ConfigurationError(f"workers cannot be confined here as --worker-* say: {why}")
