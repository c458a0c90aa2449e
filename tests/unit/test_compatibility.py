"""The compatibility page and the frame that runs suites of others."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from compatibility import __main__ as command
from compatibility import render, triage
from compatibility.foreign_pytest import run_pytest
from compatibility.suite import Case, Setting, Suite, SuiteFailed

FOREIGN = {
    "tests/test_sums.py": """
        import os, pytest
        @pytest.mark.parametrize("n", [1, 2])
        def test_one(n): assert n == 1, "expected one"
        @pytest.mark.skip(reason="not today")
        def test_skipped(): pass
        @pytest.fixture
        def broken(): yield; raise OSError("torn down")
        class TestIn:
            def test_plugin(self): assert os.environ["ADDED"] + os.environ["WORD"] == "by us, given"
            def test_teardown(self, broken): pass
        """,
    "tests/test_absent.py": "import a_module_that_nobody_has\n",
    "tests/test_not_chosen.py": "def test_other(): assert False\n",
    "plugins/our_plugin.py": "import os\nos.environ['ADDED'] = 'by us, '\n",
}


def dedented(text: str) -> str:
    return "\n".join(line.removeprefix("        ") for line in text.splitlines())


def foreign_cases(setting: Setting) -> Iterator[Case]:
    return run_pytest(
        setting,
        ["tests/test_sums.py", "tests/test_absent.py"],
        plugin="our_plugin",
        environ={"WORD": "given"},
    )


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    folder = tmp_path_factory.mktemp("foreign")
    for name, text in FOREIGN.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(dedented(text))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("compatibility.foreign_pytest.PLUGINS", folder / "plugins")
        found = list(foreign_cases(Setting(folder, folder, sys.executable)))
    return {case.id: case for case in found}


def test_a_foreign_suite_gives_a_case_for_each_test_by_the_id_of_pytest(cases):
    assert {id: case.outcome for id, case in cases.items()} == {
        "tests/test_absent.py": "failed",
        "tests/test_sums.py::test_one[1]": "passed",
        "tests/test_sums.py::test_one[2]": "failed",
        "tests/test_sums.py::test_skipped": "skipped",
        "tests/test_sums.py::TestIn::test_plugin": "passed",
        "tests/test_sums.py::TestIn::test_teardown": "failed",
    }
    assert {case.area for case in cases.values()} == {"tests/test_absent.py", "tests/test_sums.py"}


def test_a_case_that_did_not_pass_says_why_in_one_line(cases):
    assert "a_module_that_nobody_has" in cases["tests/test_absent.py"].reason
    assert "expected one" in cases["tests/test_sums.py::test_one[2]"].reason
    assert cases["tests/test_sums.py::test_skipped"].reason == "not today"
    assert not any("\n" in case.reason for case in cases.values())


def test_a_suite_that_does_not_run_is_no_result(tmp_path):
    with pytest.raises(SuiteFailed, match="ended with 4"):
        list(run_pytest(Setting(tmp_path, tmp_path), ["absent.py"]))
    with pytest.raises(SuiteFailed, match="no case"):
        command.described(Suite("", "", "", "", "", lambda _: []), [])


@pytest.fixture
def entries(tmp_path) -> list[triage.Entry]:
    (tmp_path / "sums.toml").write_text(
        '[[triage]]\ncases = ["tests/test_sums.py::test_one[2]", "tests/old.py::*"]\n'
        'decision = "0002"\nreason = "two is not one"\n'
        '[[triage]]\ncases = ["*::TestIn::*", "tests/test_sums.py::test_one[*]"]\n'
        'not_applicable = true\nreason = "the inside"\n'
    )
    return triage.read("sums", tmp_path)


def result(cases: dict[str, Case]) -> dict[str, object]:
    suite = Suite("Sums", "1.2", "https://example.org", "git clone sums", "--source sums", list)
    return command.described(suite, cases.values())


def test_failures_are_sorted_by_the_first_pattern_that_matches(cases, entries):
    found = render.sorted_failures(result(cases), entries)

    assert {entry.reason: ids for entry, ids in found.triaged.items()} == {
        "two is not one": ["tests/test_sums.py::test_one[2]"],
        "the inside": ["tests/test_sums.py::TestIn::test_teardown"],
    }
    assert found.failed == ["tests/test_absent.py"]
    # The last pattern is stale although it matches: another one came first.
    assert found.stale == ["tests/old.py::*", "tests/test_sums.py::test_one[*]"]


def test_a_run_tells_what_is_not_triaged_and_what_is_stale(cases, entries):
    told = command.told(result(cases), entries)

    assert "failed: tests/test_absent.py: " in told
    assert "matches nothing that failed: tests/old.py::*" in told
    assert told.endswith("2 passed, 2 triaged, 1 skipped, 1 failed")


def test_the_page_has_counts_reasons_failures_and_the_command(cases, entries):
    page = render.page({"sums": result(cases)}, {"sums": entries})

    assert "| Sums | 1.2 | 2 | 1 | 1 | 1 | 1 |" in page
    assert "| tests/test_sums.py | 2 | 1 | 1 | 1 | 0 |" in page
    assert "* [0002](../decisions/0002-lossless-typing.md): two is not one (`tests/" in page
    assert "* the inside (`tests/test_sums.py::TestIn::test_teardown`)" in page
    assert "* `not today` (1)" in page
    assert "* `tests/test_absent.py`: `" in page
    assert "git clone sums\npython -m compatibility sums --source sums\n" in page


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ('cases = ["x"]\nreason = "r"', "either `decision` or `not_applicable"),
        ('cases = ["x"]\nreason = "r"\ndecision = "9999"', "has the number 9999"),
        ('cases = ["x"]\ndecision = "0002"', "a `reason`"),
        ('cases = ["x"]\nreason = "r"\ndecison = "0002"', "unknown key decison"),
    ],
)
def test_a_triage_entry_that_says_nothing_is_refused(tmp_path, entry, message):
    (tmp_path / "sums.toml").write_text(f"[[triage]]\n{entry}\n")

    with pytest.raises(triage.BadTriage, match=message):
        triage.read("sums", tmp_path)


def test_no_path_of_the_machine_is_kept(tmp_path):
    setting = Setting(tmp_path / "source", tmp_path / "scratch", "/an/environment/bin/python")
    text = f"{tmp_path}/source/x {tmp_path}/scratch/y /an/environment/lib/z {command.ROOT}/src"

    assert command.without_paths(text, setting) == "…/x …/y …/lib/z …/src"


def test_the_compatibility_page_is_the_rendering_of_its_results():
    found = render.results()
    text = render.page(found, {name: triage.read(name) for name in found})

    assert render.PAGE.read_text() == text, "run `python -m compatibility render`"


def test_every_triage_entry_matches_something_that_failed():
    found = render.results().items()

    stale = {name: render.sorted_failures(each, triage.read(name)).stale for name, each in found}
    assert {name: patterns for name, patterns in stale.items() if patterns} == {}


def test_every_triage_file_has_a_suite_and_every_result_too():
    suites = {path.stem for path in command.SUITES.glob("*.py")}

    assert {path.stem for path in triage.FOLDER.glob("*.toml")} <= suites
    assert set(render.results()) <= suites


def test_options_for_the_suite_may_follow_its_source(tmp_path, capsys):
    assert (
        command.main(["mlflow", "--source", str(tmp_path / "nowhere"), "--", "-k", "codecs"]) == 1
    )
    assert "nowhere" in capsys.readouterr().err
