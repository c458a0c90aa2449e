"""Results are written whole, to a place that was tried before, and the page is made of them."""

from __future__ import annotations

import pytest
from benchmarks import render, result_files


def test_a_place_that_cannot_be_written_to_is_found_before_measuring(tmp_path):
    (tmp_path / "results").write_text("no folder")

    with pytest.raises(result_files.NoResult, match=r"results/curves\.json"):
        result_files.place("curves", tmp_path / "results")


def test_a_place_is_made_and_stays_empty_until_there_is_a_result(tmp_path):
    path = result_files.place("curves", tmp_path / "out")

    assert list(path.parent.iterdir()) == []


def test_what_was_written_is_read(tmp_path):
    result_files.write(tmp_path / "curves.json", {"rate": 1.5})

    assert result_files.read(tmp_path / "curves.json") == {"rate": 1.5}
    assert [each.name for each in tmp_path.iterdir()] == ["curves.json"]


def test_an_earlier_result_stays_where_a_new_one_cannot_be_written(tmp_path):
    path = tmp_path / "curves.json"
    result_files.write(path, {"rate": 1.5})

    with pytest.raises(TypeError):
        result_files.write(path, {"rate": object()})

    assert result_files.read(path) == {"rate": 1.5}


def test_a_file_that_is_not_json_is_named_with_what_restores_it(tmp_path):
    (tmp_path / "curves.json").write_text('{"rate": ')

    with pytest.raises(result_files.NoResult, match=r"curves\.json is not JSON .*git checkout"):
        result_files.read(tmp_path / "curves.json")


def test_a_page_without_any_result_is_its_introduction():
    assert render.page([]) == render.INTRODUCTION


def test_the_committed_results_have_a_page():
    found = [result_files.read(path) for path in sorted(result_files.RESULTS.glob("*.json"))]

    assert render.page(found).startswith(render.INTRODUCTION)
