"""The iris example: autolog, import, service, bundle, and an environment made from its lock."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from sklearn.datasets import load_iris

import headrace
from support.asking import ask
from support.walkthrough import Walkthrough, walkthrough
from support.wheels import offline, wheelhouse

pytestmark = [pytest.mark.e2e, pytest.mark.examples, pytest.mark.timeout(900)]

FLOWERS = load_iris().data


def classified(page: Walkthrough) -> list[int]:
    answer = ask(page.http, "POST", "/classify", FLOWERS.tolist())
    assert answer.status == 200, answer.body
    return answer.json


def test_sources_bundle_and_locked_environment_answer_as_the_model_called_directly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheels, home = tmp_path / "wheels", tmp_path / "home"
    monkeypatch.setenv("HEADRACE_HOME", str(home))
    kept = {**offline(wheels), "UV_CACHE_DIR": str(tmp_path / "uv")}
    with walkthrough("iris_lightgbm", tmp_path, **kept) as page:
        page.follow(until="headrace build")
        model = headrace.mlflow.get("iris_lightgbm:latest")
        expected = model.load_model().predict(FLOWERS).tolist()
        assert classified(page) == expected

        wheelhouse(wheels, "headrace", *model.info.options["requirements"])
        page.follow(until="bundles import")
        shutil.rmtree(home)
        page.follow(until="uv venv")
        assert classified(page) == expected

        page.follow()
        assert classified(page) == expected
        document = ask(page.http, "GET", "/openapi.json").json

    assert [each.answer for each in page.asked] == [each.shown for each in page.asked]
    assert "/classify" in document["paths"]
    # No model waited for an environment of its own.
    assert not list(page.folder.glob("elsewhere/environments/*"))
    for large in (wheels, tmp_path / "uv", page.folder / ".venv-iris"):
        shutil.rmtree(large)
