"""The calls of OpenAI's own Python client, each a case, against one of each of MLflow's agents."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

from compatibility.suite import Case, Setting, Suite, SuiteFailed

CALLS = Path(__file__).parent.parent / "clients" / "openai_calls.py"
# Seconds for all calls; the first trace waits for MLflow to make its database.
TIMEOUT = 300


def run(setting: Setting) -> Iterator[Case]:
    """Serve the agents that the tests use, and make every call in the client's environment."""
    from support.agents import ECHOES, save_agents, tracked
    from support.serving import serving

    save_agents(setting.folder, ECHOES)
    with serving(setting.folder, "--env-manager", "local", env=tracked(setting.folder)) as server:
        command = [setting.python, str(CALLS), server.http, *setting.options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
    if done.returncode:
        raise SuiteFailed(f"the calls were not made: {done.stderr[-500:]}")
    for area, id, reason in json.loads(done.stdout.splitlines()[-1]):
        yield Case(area, id, "failed" if reason else "passed", reason)


SUITE = Suite(
    title="OpenAI's Python client",
    version="3.57.0",
    url="https://github.com/openai/openai-python",
    get="python -m venv openai && openai/bin/pip install openai==3.57.0",
    arguments="--python openai/bin/python",
    run=run,
)
