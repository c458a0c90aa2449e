"""What a runner of a stored model returns equals what the model returns: local and served."""

from __future__ import annotations

import asyncio
import importlib.util
import shutil

import mlflow
import numpy as np
import pandas as pd
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import LabelEncoder

import headrace
from support import values
from support.asking import ask
from support.services import serving_service, write_service
from support.values import VALUES

pytestmark = pytest.mark.e2e

TABLE = pd.DataFrame({"a": [0.0, 1.0, 2.0, 3.0], "b": [1.0, 0.0, 1.0, 0.0]})
WORDS = pd.Series(["aa bb", "bb bb", "cc"])

SERVICE = """
import pandas as pd
from values import VALUES, same

TABLE = pd.DataFrame({"a": [0.0, 1.0, 2.0, 3.0], "b": [1.0, 0.0, 1.0, 0.0]})
WORDS = pd.Series(["aa bb", "bb bb", "cc"])

class Identity:
    def returned(self, value):
        return value

echo, encoder, words = stored("echo"), stored("encoder"), stored("words")
table, logged = stored("table"), stored("logged")
svc = Service("s", runners=[echo, encoder, words, table, logged])
CASES = {
    **{name: (lambda name=name: echo.returned.async_run(VALUES[name])) for name in VALUES},
    "labels of a series": lambda: encoder.transform.async_run(WORDS),
    "labels of a list": lambda: encoder.transform.async_run(WORDS.tolist()),
    "labels of an array": lambda: encoder.transform.async_run(WORDS.to_numpy()),
    "counts of a series": lambda: words.transform.async_run(WORDS),
    "a table": lambda: table.predict.async_run(TABLE),
    "a table as an array": lambda: table.predict.async_run(TABLE.to_numpy()),
    "a table as lists": lambda: table.predict.async_run(TABLE.to_numpy().tolist()),
    "another method": lambda: table.predict_proba.async_run(TABLE),
    "a method that is not batchable": lambda: table.decision_function.async_run(TABLE),
    "an MLflow model": lambda: logged.predict.async_run(TABLE),
    "a second method of an MLflow model": lambda: logged.predict_proba.async_run(TABLE),
    "a third method of an MLflow model": lambda: logged.decision_function.async_run(TABLE),
}

def expected(name):
    if name in VALUES:
        return VALUES[name]
    loaded = {each: headrace.models.get(each).load_model() for each in ("encoder", "words")}
    model = headrace.models.get("table").load_model()
    if "label" in name:
        return loaded["encoder"].transform(WORDS)
    if "counts" in name:
        return loaded["words"].transform(WORDS).toarray()
    if "second" in name or "another" in name:
        return model.predict_proba(TABLE)
    if "third" in name or "not batchable" in name:
        return model.decision_function(TABLE)
    return model.predict(TABLE)

@svc.api(input=Text(), output=JSON())
async def check(name):
    found = await CASES[name]()
    # A sparse matrix is sent as an array, and so is what it is compared with.
    found = found.toarray() if hasattr(found, "toarray") else found
    return repr(found) if not same(found, expected(name)) else "the same"
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    root = tmp_path_factory.mktemp("values")
    with pytest.MonkeyPatch.context() as patch:
        shutil.copy(values.__file__, root / "values.py")
        found = write_service(root, patch, SERVICE)
        save(root)
        yield found


def save(root):
    class Identity:
        def returned(self, value):
            return value

    labels = [0, 1, 1, 0]
    model = LogisticRegression().fit(TABLE, labels)
    batched = {"batchable": True}
    methods = {"predict": batched, "predict_proba": batched, "decision_function": {}}
    headrace.picklable_model.save_model("echo", Identity(), signatures={"returned": {}})
    headrace.sklearn.save_model(
        "encoder", LabelEncoder().fit(WORDS), signatures={"transform": batched}
    )
    headrace.sklearn.save_model(
        "words", CountVectorizer().fit(WORDS), signatures={"transform": batched}
    )
    headrace.sklearn.save_model("table", model, signatures=methods)
    folder = str(root / "logged")
    mlflow.sklearn.save_model(
        model,
        folder,
        pip_requirements=["scikit-learn"],
        signature=mlflow.models.infer_signature(TABLE, np.array(labels)),
    )
    headrace.mlflow.import_model("logged", folder, signatures=methods)


OTHERS = [
    "labels of a series",
    "labels of a list",
    "labels of an array",
    "counts of a series",
    "a table",
    "a table as an array",
    "a table as lists",
    "another method",
    "a method that is not batchable",
    "an MLflow model",
    "a second method of an MLflow model",
    "a third method of an MLflow model",
]
CASES = [*VALUES, *OTHERS]


def test_every_case_is_asked_of_both(file):
    found = module_of(file)

    assert list(found.CASES) == CASES


def module_of(file):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(file.parent)
        spec = importlib.util.spec_from_file_location("service_of_values", file)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def local(file):
    module = module_of(file)
    for runner in module.svc.runners:
        runner.init_local(quiet=True)
    return module


@pytest.fixture(scope="module")
def server(file):
    with serving_service(file, "--env-manager", "local") as server:
        yield server


@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
@pytest.mark.parametrize("name", CASES)
def test_a_local_runner_returns_what_its_model_returns(local, name):
    assert asyncio.run(local.check(name)) == "the same"


@pytest.mark.parametrize("name", CASES)
def test_a_served_runner_returns_what_its_model_returns(server, name):
    answer = ask(server.http, "POST", "/check", name.encode(), {"Content-Type": "text/plain"})

    assert (answer.status, answer.json) == (200, "the same")
