"""Importing an MLflow model from an object store, through MLflow's client."""

from __future__ import annotations

import mlflow
import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

import headrace
from headrace.errors import InvalidModel, LoadFailed

boto3 = pytest.importorskip("boto3")
moto_server = pytest.importorskip("moto.server")

pytestmark = pytest.mark.filterwarnings("ignore")

X = np.array([[1.0, 1.0], [1.0, 2.0], [2.0, 2.0]])
Y = X @ [1.0, 2.0]


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """A bucket of a server on this machine, and the client that MLflow uses for it."""
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    server = moto_server.ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    for name, value in {
        "MLFLOW_S3_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3", endpoint_url=address)
    client.create_bucket(Bucket="models")
    yield client
    server.stop()


def upload(client, folder, prefix):
    for path in folder.rglob("*"):
        if path.is_file():
            client.upload_file(str(path), "models", f"{prefix}/{path.relative_to(folder)}")


def test_a_model_is_imported_from_an_object_store(bucket, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mlflow.sklearn.save_model(
        LinearRegression().fit(X, Y), str(tmp_path / "m"), pip_requirements=["numpy"]
    )
    # A place as MLflow names it for a run, though no tracking server knows that run.
    prefix = "1/0123456789abcdef0123456789abcdef/artifacts/model"
    upload(bucket, tmp_path / "m", prefix)
    stored = headrace.mlflow.import_model("remote", f"s3://models/{prefix}")
    np.testing.assert_allclose(headrace.mlflow.load_model(stored).predict(X), Y)
    assert not list(tmp_path.glob("mlflow.db"))


def test_a_place_of_an_object_store_without_a_model_is_refused(bucket):
    bucket.put_object(Bucket="models", Key="other/readme.txt", Body=b"text")
    with pytest.raises(InvalidModel, match="'s3://models/other' is not an MLflow model"):
        headrace.mlflow.import_model("remote", "s3://models/other")


def test_an_object_store_that_refuses_gives_its_reason(bucket):
    with pytest.raises(
        LoadFailed, match=r"cannot fetch 's3://nobody/model'.*bucket does not exist"
    ):
        headrace.mlflow.import_model("remote", "s3://nobody/model")
