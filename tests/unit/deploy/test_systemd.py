"""The unit: systemd itself reads it, where it is installed."""

from __future__ import annotations

import shutil
import subprocess
from typing import Any

import pytest

from headrace import bundles, picklable_model
from headrace.deploy import systemd
from headrace.deploy.workload import Options
from headrace.errors import ConfigurationError
from support.custom import write_model


def of(source: object, program: str = "/opt/headrace/bin/headrace", **flags: Any) -> list[str]:
    """The lines of the unit."""
    _, text = systemd.unit(str(source), Options(**flags), program)
    return text.splitlines()


def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path):
    verify = shutil.which("systemd-analyze")
    if verify is None:
        pytest.skip("systemd-analyze is not installed")
    program = tmp_path / "a folder with % and $x" / "headrace"
    program.parent.mkdir()
    shutil.copy("/bin/true", program)
    folder = write_model(tmp_path, name="m")
    values = {"A": 'a "b" \\ $x %h ; # \'', "B": ""}
    values["HEADRACE_API_KEYS_FILE"] = "/a folder/100% of: keys"
    lines = of(folder, str(program), env=values, cpu="1500m", memory="2Gi")
    (tmp_path / "m.service").write_text("\n".join(lines) + "\n")

    done = subprocess.run(
        [verify, "verify", str(tmp_path / "m.service")], capture_output=True, text=True, timeout=100
    )

    # It also reads the units of this machine, which are not ours to judge.
    assert [line for line in done.stderr.splitlines() if "m.service" in line] == []
    assert done.returncode == 0, done.stderr


def test_the_command_serves_the_source_wherever_it_runs(tmp_path, monkeypatch):
    folder = write_model(tmp_path)
    (tmp_path / "service.py").write_text("import headrace\nsvc = headrace.Service('sums')\n")
    monkeypatch.chdir(tmp_path)

    assert f"ExecStart=/opt/headrace/bin/headrace serve {folder}" in of("m")
    service = of("service.py:svc")
    assert "ExecStart=/opt/headrace/bin/headrace serve service.py:svc" in service
    assert f"WorkingDirectory={tmp_path}" in service
    uri = of("s3://bucket/wine")
    assert "ExecStart=/opt/headrace/bin/headrace serve s3://bucket/wine" in uri


def test_a_bundle_is_served_from_its_folder_and_what_needs_the_store_is_refused(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "home"))
    picklable_model.save_model("iris:v1", len)
    (tmp_path / "headrace.yaml").write_text(
        "name: packed\nmodels: ['iris:v1']\npython: {lock_packages: false}\n"
    )
    bundle = bundles.build(tmp_path, version="7")

    path = bundle.path.rstrip("/")
    assert f"ExecStart=/opt/headrace/bin/headrace serve {path}" in of("packed:7")
    with pytest.raises(ConfigurationError, match="which a service of systemd does not read"):
        of("iris:v1")


def test_it_waits_as_long_as_the_server_may_take_to_start_and_to_stop(tmp_path):
    folder = write_model(tmp_path)
    times = {"fetch_timeout": 10, "environment_timeout": 20, "load_timeout": 30.5}
    drain = {"drain_delay": 3, "drain_timeout": 90}
    env = {f"HEADRACE_{name.upper()}": str(value) for name, value in (times | drain).items()}

    lines = of(folder, env=env)

    assert "Type=notify" in lines
    assert "TimeoutStartSec=61" in lines
    assert "TimeoutStopSec=98" in lines


@pytest.mark.parametrize(("program", "homes"), [("/opt/h", "yes"), ("/home/me/h", "read-only")])
def test_a_home_folder_is_seen_only_if_something_in_it_is_needed(program, homes):
    assert f"ProtectHome={homes}" in of("s3://bucket/wine", program)


def test_limits_are_set_if_they_are_asked_for():
    plain, limited = of("s3://b/w"), of("s3://b/w", cpu="1500m", memory="2Gi")

    assert {"CPUQuota=150%", f"MemoryMax={2 * 1024**3}"} == {*limited} - {*plain}


def test_a_relative_program_is_refused():
    with pytest.raises(ConfigurationError, match="--program: expected an absolute path"):
        of("s3://bucket/wine", "bin/headrace")


@pytest.mark.parametrize("top", ["/tmp", "/var/tmp"])
def test_a_program_in_a_folder_that_the_unit_hides_is_named(top):
    workload, _ = systemd.unit("s3://bucket/wine", Options(), f"{top}/env/bin/headrace")

    (note,) = workload.notes
    assert f"does not see {top}/env/bin/headrace: it has a {top} of its own" in note


def test_a_source_that_would_join_two_lines_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="joins a line"):
        of(write_model(tmp_path, name="m").rename(tmp_path / "m\\"))
