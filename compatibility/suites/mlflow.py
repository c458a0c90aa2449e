"""MLflow's tests of its scoring server, and those of its flavors that score through it."""

from __future__ import annotations

from collections.abc import Iterator

from compatibility.foreign_pytest import run_pytest
from compatibility.suite import Case, Setting, Suite

FILES = (
    "tests/pyfunc/test_scoring_server.py",
    "tests/pyfunc/test_pyfunc_model_with_type_hints.py",
    "tests/pyfunc/test_pyfunc_schema_enforcement.py",
    "tests/pyfunc/test_chat_agent.py",
    "tests/pyfunc/test_chat_model.py",
    "tests/pyfunc/test_responses_agent.py",
    "tests/sklearn/test_sklearn_model_export.py",
    "tests/xgboost/test_xgboost_model_export.py",
    "tests/lightgbm/test_lightgbm_model_export.py",
)


def run(setting: Setting) -> Iterator[Case]:
    """The tests that send a request to a server."""
    yield from run_pytest(setting, FILES, plugin="mlflow_on_headrace")


SUITE = Suite(
    title="MLflow's scoring tests",
    version="tests of 3.11.2.dev0 (commit a89bed67689f), with MLflow 3.17.2",
    url="https://github.com/harupy/mlflow",
    get=(
        "git clone https://github.com/harupy/mlflow\n"
        "git -C mlflow checkout a89bed67689f916c79a8e1c1ad6cfb5cd7649c77\n"
        # Else it would be imported in place of the installed one.
        "find mlflow/mlflow ! -name version.py -type f -delete\n"
        "pip install tensorflow-cpu pyspark-client"
    ),
    arguments="mlflow --source mlflow",
    run=run,
)
