"""The command line: mistakes are answered in one line, and movers' flags are understood."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from headrace.cli import serve
from headrace.cli.main import main
from headrace.cli.parser import Parser
from headrace.sources import server_keys, variables


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that a wrong command line is answered with."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    captured = capsys.readouterr()
    assert ended.value.code == 2
    assert captured.out == ""
    return captured.err


def parsed(*arguments: str) -> argparse.Namespace:
    parser = Parser(prog="headrace")
    serve.add_command(parser.add_subparsers(dest="command"))
    return parser.parse_args(arguments)


def test_an_unknown_flag_names_the_nearest_and_shows_no_usage(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert refused(capsys, "serve", "--htp-port", "1") == (
        "headrace serve: there is no flag '--htp-port'; did you mean '--http-port'? "
        "`headrace serve --help` shows what it takes\n"
    )


def test_an_unknown_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert "there is no command 'srve'; did you mean 'serve'?" in refused(capsys, "srve")
    assert "there is no word 'shw'; did you mean 'show'?" in refused(capsys, "config", "shw")


def test_an_argument_too_many_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert "headrace serve: unexpected argument 'b'" in refused(capsys, "serve", "a", "b")


def test_the_flags_of_mlflow_models_serve_are_understood() -> None:
    found = parsed("serve", "-m", "models:/a/1", "-p", "5001", "-h", "::1", "-w", "2", "-t", "5")

    assert found.model_uri == "models:/a/1"
    assert (found.http_port, found.host) == ("5001", "::1")
    assert (found.parallel_workers, found.infer_timeout) == ("2", "5")
    assert parsed("serve", "--port", "5001", "--workers", "2").http_port == "5001"


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_is_shown_for_h_alone(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parsed("serve", flag)

    assert ended.value.code == 0
    assert "--http-port" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--http-port", "abc"], "--http-port: expected integer, got 'abc'"),
        (["-p", "abc"], "--http-port: expected integer, got 'abc'"),
        (["--infer-timeout", "0"], "--infer-timeout: expected a number above 0, got 0.0"),
        (["--log-level", "debgu"], "--log-level: expected one of debug, info, warning, error, got "
         "'debgu'; did you mean 'debug'?"),
        (["-m", "a", "b"], "MODEL is 'b', and -m names another; give one of them"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_named_with_its_flag(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)

    assert main(["serve", *arguments]) == 2

    assert capsys.readouterr().err == f"headrace: {message}\n"


@pytest.mark.parametrize("level", ["DEBUG", "Warn"])
def test_a_choice_may_be_written_in_any_case(
    level: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADRACE_LOG_LEVEL", level)

    assert main(["config", "show"]) == 0

    shown = next(line for line in capsys.readouterr().out.splitlines() if "log_level" in line)
    assert shown.split()[1] == {"DEBUG": '"debug"', "Warn": '"warning"'}[level]


def test_every_flag_that_is_no_setting_is_a_variable_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plugin.py").write_text("")
    (tmp_path / "conf.yaml").write_text("model_uri: models:/wine/1\nhttp_port: 9000\n")
    environ = {"NAME": "red", "PLUGIN": "plugin.py", "PLUGIN_CLASS": "Mine", "PACKAGES": "a==1",
               "CONF": "conf.yaml"}  # fmt: skip
    for name, value in environ.items():
        monkeypatch.setenv(f"HEADRACE_{name}", value)

    assert main(["config", "show"]) == 0

    shown = capsys.readouterr().out
    assert "model red" in shown
    assert "plugin.py:Mine" in shown
    assert "9000" in shown
    assert '{"packages": ["a==1"]}' in shown


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('{\n  "http_port": 1,\n  "host": ', "ends too early, at line 3, column 11"),
        ('{\n  "http_port": 1,\n}', "the fault is at line 2, column 17"),
    ],
)
def test_a_broken_settings_file_is_named_with_line_and_column(
    text: str, place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "settings.json").write_text(text)

    assert main(["config", "show", str(tmp_path)]) == 2

    assert capsys.readouterr().err.endswith(f"{place}\n")


@pytest.mark.parametrize(
    ("arguments", "instead"),
    [
        (["init"], "use `headrace check FOLDER`"),
        (["predict", "-m", "x"], "use `headrace infer`"),
        (["build-docker"], "use `headrace build`"),
        (["models", "serve", "-m", "x"], "use `headrace serve`"),
        (["models:/wine/1"], "use `headrace serve models:/wine/1`"),
        (["."], "use `headrace serve .`"),
    ],
)
def test_a_command_of_another_program_or_none_at_all_is_told_what_to_use(
    arguments: list[str], instead: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert instead in refused(capsys, *arguments)


@pytest.mark.parametrize(
    ("arguments", "manager", "note"),
    [
        (["--no-conda"], "local", ""),
        (["--env-manager", "virtualenv"], "uv", "--env-manager: virtualenv is taken for uv"),
        (["--env-manager", "conda"], "uv", "--env-manager: conda is taken for uv; it installs"),
        (["--install-mlflow"], "auto", "--install-mlflow is accepted and has no effect: "),
        (["--enable-mlserver"], "auto", "--enable-mlserver is accepted and has no effect: "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_mlflow_builds_environments_with_is_understood(
    arguments: list[str],
    manager: str,
    note: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    options = parsed("serve", *arguments)
    resolved, _ = serve.settled(options, serve.conf_of(options))

    assert resolved.settings.env_manager == manager
    assert [warning[: len(note)] for warning in resolved.warnings] == ([note] if note else [])


def test_every_flag_of_serve_that_is_shown_is_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    parser = Parser(add_help=False)
    serve.add_arguments(parser)
    shown = [
        each for each in parser._actions if each.help != argparse.SUPPRESS and each.dest != "help"
    ]
    known = {*server_keys.KNOWN, *variables.ARGUMENTS}

    # The model itself is named by the root of the repository, as MLServer names it.
    assert {each.dest for each in shown} - known == {"model", "model_uri"}
    for each in shown:
        if each.dest in known:
            assert variables.unknown({f"HEADRACE_{each.dest.upper()}": "1"}) == ()


def test_a_long_flag_with_one_dash_names_the_one_with_two(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert "no flag '-port'; did you mean '--port'?" in refused(capsys, "serve", "-port", "80")
    assert parsed("serve", "-p80").http_port == "80"


def test_a_switch_with_a_value_says_that_it_takes_none(capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, "serve", "m", "--access-log", "true")
    assert "unexpected argument 'true'; a switch takes no value" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--timeout", "5s"], "--infer-timeout: expected number of seconds, got '5s'"),
        (["--max-body-size", "1MB"], "--max-body-size: expected integer of bytes, got '1MB'"),
        ([""], "MODEL is empty; was a variable of the shell not set?"),
    ],
)
def test_a_value_with_a_unit_or_without_content_is_told_what_is_expected(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", *arguments]) == 2
    assert capsys.readouterr().err == f"headrace: {message}\n"
