"""The folder of an MLflow model, wherever its URI leads; MLflow's client fetches it."""

from __future__ import annotations

import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from headrace.errors import InvalidInput, LoadFailed, shorten
from headrace.runtimes import artefact, fetch_failure
from headrace.settings import home_folder
from headrace.store.staging import failures
from headrace.store.transfer import copy_content

logger = logging.getLogger(__name__)

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
# Below a run's artifacts, in every artifact store of MLflow.
_OF_RUN = re.compile(r"/(?P<run>[0-9a-f]{32})/artifacts/(?P<path>.+)$")


@dataclass(frozen=True)
class Fetched:
    """The local folder of a model, and whether it was downloaded for this purpose only."""

    path: str
    is_download: bool = False

    def place(self, target: str) -> None:
        """Make it the folder `target`, which does not exist yet.

        Raises:
            InvalidModel: there is something in it that is neither a file, a folder nor a link.
            StoreFailed: it cannot be read or written.
        """
        with failures(f"'{self.path}'"):
            if self.is_download:
                shutil.move(self.path, target)
            else:
                os.mkdir(target)
                copy_content(Path(self.path), Path(target), "copying the model")


@contextmanager
def fetched(uri: str | os.PathLike[str]) -> Iterator[Fetched]:
    """The local folder that a path or URI names. What is left of a download is removed afterwards.

    Raises:
        InvalidInput: it is empty.
        LoadFailed: there is no such folder, or the URI cannot be fetched.
        MissingDependency: MLflow's client is needed and not installed.
    """
    text = os.fspath(uri)
    if not text.strip():
        raise InvalidInput("model_uri is empty; expected a folder or a URI such as runs:/ID/model")
    local = _local_path(text)
    if local is not None and Path(local).is_dir():
        yield Fetched(local)
        return
    of_run = _of_run(text, local is not None)
    if local is not None and of_run is None:
        raise LoadFailed(f"there is no folder '{shorten(text, 200)}'")
    # Near the store, so that the model needs no second copy. The number of the process in the name
    # lets a server remove what a killed one left behind.
    downloads = home_folder() / "downloads"
    downloads.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(prefix=f"{os.getpid()}-", dir=downloads) as folder:
        path = _downloaded(of_run or text, folder)
        yield Fetched(path, Path(folder) in Path(path).parents)


def _local_path(uri: str) -> str | None:
    """The path that this is, or None for a URI of something that is elsewhere."""
    if not _URI.match(uri):
        return uri
    parts = urlsplit(uri)
    return unquote(parts.path) if parts.scheme == "file" else None


def _of_run(uri: str, is_local: bool) -> str | None:
    """The `runs:/` URI of a place below a run's artifacts, or None if it is not known to be one.

    MLflow 3 keeps the models of a run outside of the run's artifacts. `mlflow.get_artifact_uri` and
    `run.info.artifact_uri` still name the places where earlier versions kept them, and only
    `runs:/` leads to both.
    """
    match = _OF_RUN.search(uri.rstrip("/"))
    if match is None:
        return None
    mlflow = artefact.require("mlflow", "mlflow")
    # Asking where no tracking server is set would create a database in the working directory.
    if not (is_local or mlflow.is_tracking_uri_set()):
        return None
    try:
        root = str(mlflow.MlflowClient().get_run(match["run"]).info.artifact_uri)
    except Exception as error:
        logger.debug("no run to ask about '%s': %s", uri, error)
        return None
    return f"runs:/{match['run']}/{match['path']}" if _is_below(uri, root) else None


def _is_below(uri: str, root: str) -> bool:
    given, expected = (_local_path(each) or each for each in (uri, root))
    return given.startswith(expected.rstrip("/") + "/")


def _downloaded(uri: str, folder: str) -> str:
    artifacts = artefact.require("mlflow.artifacts", "mlflow")
    try:
        path = artifacts.download_artifacts(artifact_uri=uri, dst_path=folder)
    except Exception as error:
        # What MLflow raises depends on where the model is stored; its message is the reason.
        raise fetch_failure.failure(error, uri) from error
    return str(path)
