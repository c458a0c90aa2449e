"""schemathesis with many cases, against the OpenAPI document of a real server.

`make test` tries some forty of each operation, so only the long form does this.
"""

from __future__ import annotations

import re
import subprocess
from itertools import count
from pathlib import Path

import pytest

from fuzz.figures import IS_LONG, SEED, counted
from support.asking import ask
from support.clients import environment
from support.serving import serving
from support.wine import save_mlflow, trained

pytestmark = [
    pytest.mark.fuzz,
    pytest.mark.e2e,
    pytest.mark.skipif(not IS_LONG, reason="tests/e2e/test_schemathesis.py tries some of these"),
]
# At least so many of each group.
CASES = 10_000

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)
# MLflow labels its bare newline and version text as JSON, and so do we.
NOT_JSON = ("/ping", "/health", "/version")
# The paths of each group begin like this. Unloading the model on purpose makes every later answer
# a rightful 503, so the repository's are left out.
GROUPS = {
    "/v2": r"^/v2(?!/repository/models)",
    "/v1": r"^/v1",
    "/invocations": r"^/invocations",
    "others": r"^/(?!v1|v2|invocations)",
}
METHODS = {"get", "head", "options", "patch", "post", "put", "delete"}
GENERATED = re.compile(r"(\d[\d,]*) generated")


@pytest.mark.parametrize("group", GROUPS)
def test_no_generated_request_gets_a_server_error_or_an_undeclared_answer(
    tmp_path: Path, group: str
) -> None:
    python = environment("schemathesis")
    model = save_mlflow(tmp_path / "model", trained(), True)
    with (
        serving(str(model), "--name", "wine") as server,
        counted("schemathesis cases", group) as tally,
    ):
        command = [str(python.parent / "st"), "run", f"{server.http}/openapi.json"]
        command += ["--checks", ",".join(CHECKS), "--phases", "examples,coverage,fuzzing"]
        command += ["--mode", "all", "--include-path-regex", GROUPS[group], "--no-color"]
        command += ["--max-examples", str(CASES // operations(server.http, group))]
        for path in NOT_JSON:
            command += ["--exclude-path", path]
        # An operation that takes little has few cases, so one run may not be enough.
        for seed in count(SEED):
            again = ["--seed", str(seed)]
            done = subprocess.run(command + again, cwd=tmp_path, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout[-6000:]
            found = sum(int(each.replace(",", "")) for each in GENERATED.findall(done.stdout))
            assert found
            tally.count += found
            if tally.count >= CASES:
                break

        assert ask(server.http, "GET", "/v2/health/live").status == 200


def operations(url: str, group: str) -> int:
    """How many operations of a group the document has."""
    paths = ask(url, "GET", "/openapi.json").json["paths"]
    chosen = [item for path, item in paths.items() if re.match(GROUPS[group], path)]
    return sum(len(METHODS & item.keys()) for item in chosen)
