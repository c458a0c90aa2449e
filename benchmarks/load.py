"""Load from wrk: one keep-alive request per connection at a time, on one thread of wrk."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.result_files import NoResult

SCRIPT = """wrk.method = "POST"
{headers}
wrk.body = "{body}"
{check}
function done(summary, latency, requests)
  local errors = summary.errors
  local wrong = threads[1]:get("wrong")
  io.write(string.format(
    '\\nRESULT {{"requests": %d, "microseconds": %d, "p50": %d, "p99": %d, "errors": '
    .. '{{"connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d, '
    .. '"answer": %d}}}}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.connect, errors.read, errors.write, errors.status, errors.timeout, wrong))
end
"""
THREADS = """wrong = 0
threads = {}
function setup(thread) table.insert(threads, thread) end
"""
# wrk calls this for each answer if it is there, which takes it time.
CHECK = """function response(status, headers, body)
  if not string.find(body, "{part}", 1, true) then wrong = wrong + 1 end
end
"""


ESCAPES = {byte: f"\\{byte:03}" for byte in range(256) if not 32 <= byte < 127 or byte in b'"\\'}
LONGEST = 20


class LoadFailed(NoResult):
    """wrk is missing, could not run, or saw an error: there is no result."""


@dataclass(frozen=True)
class Measured:
    """One run of wrk: requests a second, and latencies in milliseconds."""

    requests: int
    seconds: float
    rate: float
    p50_ms: float
    p99_ms: float


def wrk_version() -> str:
    """The name and version that wrk prints.

    Raises:
        LoadFailed: wrk is not installed.
    """
    if shutil.which("wrk") is None:
        raise LoadFailed(
            "wrk, which makes the load, is not installed; on Debian and Ubuntu: "
            "apt-get install wrk, on macOS: brew install wrk"
        )
    # wrk prints its usage after the version, and exits with 1.
    done = subprocess.run(["wrk", "--version"], capture_output=True, text=True, timeout=10)
    return (done.stdout + done.stderr).splitlines()[0].split(" Copyright")[0]


def write_script(
    path: Path,
    body: bytes,
    content_type: str = "application/json",
    part: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> None:
    """Write the Lua script that posts `body`; with `part`, it looks for that in every answer."""
    check = THREADS if part is None else THREADS + CHECK.format(part=_escaped(part))
    fields = {"Content-Type": content_type, **(headers or {})}
    lines = "\n".join(f'wrk.headers["{name}"] = "{value}"' for name, value in fields.items())
    path.write_text(SCRIPT.format(body=_escaped(body), headers=lines, check=check))


def _escaped(data: bytes) -> str:
    # By its number what a Lua string may not hold as it is.
    return data.decode("latin-1").translate(ESCAPES)


def run(url: str, script: Path, connections: int, seconds: int) -> Measured:
    """Load `url` for whole `seconds` over `connections`.

    Raises:
        LoadFailed: a request failed on its socket, timed out, was refused or got another answer
            than the script looks for, or none came back.
    """
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "--latency"]
    try:
        done = subprocess.run(
            [*command, "-s", str(script), url], capture_output=True, text=True, timeout=seconds + 40
        )
    except subprocess.TimeoutExpired:
        raise LoadFailed(f"wrk did not end, {connections} connections to {url}") from None
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if done.returncode != 0 or not lines:
        raise LoadFailed(f"wrk ended with {done.returncode}: {(done.stderr or done.stdout)[-300:]}")
    result = json.loads(lines[0].removeprefix("RESULT "))
    errors: Mapping[str, int] = result["errors"]
    if not result["requests"] and not any(errors.values()) and seconds < LONGEST:
        # A server may take longer than a round for its first answer, and still has a rate.
        return run(url, script, connections, 3 * seconds)
    if any(errors.values()) or not result["requests"]:
        raise LoadFailed(f"{connections} connections to {url}: {errors}, so there is no result")
    taken = result["microseconds"] / 1e6
    return Measured(
        result["requests"],
        taken,
        result["requests"] / taken,
        result["p50"] / 1000,
        result["p99"] / 1000,
    )
