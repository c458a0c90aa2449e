"""Why MLflow's client could not fetch a model, in words that say what to do."""

from __future__ import annotations

import pytest
from mlflow.exceptions import MlflowException
from mlflow.tracking.registry import UnsupportedModelRegistryStoreURIException

from headrace.runtimes.artefact import fetch_reason


@pytest.mark.parametrize("uri", ["sqlite:///mlflow.db", "postgresql://host/db", "mysql+x://h/d"])
def test_a_client_that_reads_no_database_is_told_what_to_install(uri):
    error = UnsupportedModelRegistryStoreURIException(uri, ["file", "http"])

    assert fetch_reason(error).startswith(
        "a tracking store in a database needs all of MLflow: pip install mlflow; "
    )


@pytest.mark.parametrize(
    "error",
    [UnsupportedModelRegistryStoreURIException("nosuch://x", ["file"]), MlflowException("gone")],
)
def test_any_other_reason_is_in_the_words_of_mlflow(error):
    assert "pip install" not in fetch_reason(error)
    assert fetch_reason(error)[:30] in str(error)
