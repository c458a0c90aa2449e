"""Asks an interpreter itself whether it can run a worker."""

from __future__ import annotations

import json
import os
from pathlib import Path

from headrace.environments import child
from headrace.errors import InvalidModel, LoadFailed, LoadKilled

OLDEST = (3, 9)
TIMEOUT = 120.0
_SCRIPT = """
import json, sys
try:
    import numpy
    numpy = numpy.__version__
except BaseException as error:
    numpy = None
print(json.dumps({"python": list(sys.version_info[:3]), "numpy": numpy}))
"""
# These would bring the server's packages, or its user's, into the environment.
_LEAKS = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "__PYVENV_LAUNCHER__", "VIRTUAL_ENV")


def variables() -> dict[str, str]:
    """The server's environment variables, without those that would mislead Python."""
    kept = {name: value for name, value in os.environ.items() if name not in _LEAKS}
    return {**kept, "PYTHONNOUSERSITE": "1"}


async def version_of(python: Path, what: str) -> str:
    """The version of an interpreter that can run a worker, such as "3.11.7".

    Raises:
        LoadFailed: it does not run.
        InvalidModel: it is too old or has no numpy; `what` names it to the user.
    """
    program = child.Program([str(python), "-c", _SCRIPT], variables(), python.parent)
    try:
        outcome = await child.run(program, TIMEOUT)
        if outcome.was_killed:
            raise LoadKilled(f"{what}: its Python was killed")
        answer = json.loads(outcome.output.strip().splitlines()[-1])
        version, numpy = tuple(answer["python"]), answer["numpy"]
    except child.Overdue:
        raise LoadFailed(f"{what}: its Python did not answer within {TIMEOUT:g} s") from None
    except (OSError, ValueError, LookupError, TypeError):
        raise LoadFailed(f"{what}: its Python does not run") from None
    shown = ".".join(map(str, version))
    if version < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise InvalidModel(f"{what}: it has Python {shown}, and workers need {oldest} or later")
    if numpy is None:
        raise InvalidModel(
            f"{what}: numpy, which every worker needs, cannot be imported there; install it"
        )
    return shown
