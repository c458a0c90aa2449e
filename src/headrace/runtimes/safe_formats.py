"""Which models hold no code: one function for each runtime, named in its row of the catalogue.

Each takes a model's settings, with files that are here, and returns why opening them may run code
that came with the model: a clause that follows the model's name. An empty text means that the
format has no place for code. They read names and `MLmodel` files, and open nothing else.
"""

from __future__ import annotations

import os
from typing import Any

from headrace.errors import listing, shorten
from headrace.runtimes import artefact
from headrace.runtimes.artefact import TRUSTED
from headrace.settings import ModelSettings


def never(settings: ModelSettings) -> str:
    """XGBoost and CatBoost read their own formats, and no others, in native code."""
    return ""


def sklearn(settings: ModelSettings) -> str:
    """A skops file holds code only for those who trust types that skops does not."""
    from headrace.runtimes.tables.sklearn_runtime import FILES

    path = artefact.locate(settings, FILES)
    return _of_skops(settings.extra) if path.endswith(".skops") else _pickle(path)


def lightgbm(settings: ModelSettings) -> str:
    """A Booster is text; an estimator is a pickle or a skops file."""
    from headrace.runtimes.tables.lightgbm_runtime import FILES, PICKLES

    path = artefact.locate(settings, FILES)
    if path.endswith(".skops"):
        return _of_skops(settings.extra)
    return _pickle(path) if path.endswith(PICKLES) else ""


def onnx(settings: ModelSettings) -> str:
    """A graph is data; options of its providers may name libraries to load."""
    return _of_onnx(settings.extra)


def huggingface(settings: ModelSettings) -> str:
    """Weights in safetensors, with the classes of Transformers itself."""
    from headrace.runtimes.huggingface.pipelines import extra_of, is_true

    extra = extra_of(settings)
    if is_true(extra.get("trust_remote_code")):
        return "asks for trust_remote_code, which runs its own code"
    if extra.get("model_kwargs"):
        return "sets model_kwargs, which may name code"
    model, folders = extra.get("pretrained_model"), []
    for name in (model or settings.uri or settings.folder, extra.get("pretrained_tokenizer")):
        folder = os.path.join(settings.folder, name or "")
        if name and not os.path.isdir(folder):
            return f"takes '{shorten(name)}' from the Hub, whose files nobody here has seen"
        folders.append(folder)
    return _of_weights(os.listdir(folders[0]))


def _of_weights(names: list[str]) -> str:
    """Transformers is told to take weights in safetensors, and opens none of the others then."""
    if any(name.endswith(".safetensors") for name in names):
        return ""
    for kind, endings in _OTHER_WEIGHTS.items():
        if others := sorted(name for name in names if name.endswith(endings)):
            return f"has no weights in safetensors, only {kind}: {listing(others)}"
    return "has no weights in safetensors"


_OTHER_WEIGHTS = {
    "pickles": (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"),
    "files of other frameworks": (".h5", ".keras", ".msgpack", ".onnx", ".gguf"),
}


def mlflow(settings: ModelSettings) -> str:
    """Flavors whose own format is read without MLflow; a wrapper of MLflow's may unpickle."""
    from headrace.runtimes import catalog
    from headrace.runtimes.mlflow.mlflow_folder import MLflowFolder

    folder = MLflowFolder(settings)
    pyfunc = folder.pyfunc
    loader = str(pyfunc.get("loader_module") or "")
    if folder.code_folders():
        return "was logged with code"
    if pyfunc.get("config") or catalog.mlflow_reader(loader) is None:
        return f"is loaded by '{shorten(loader)}', which may run code"
    flavor = folder.flavors.get(loader.rpartition(".")[2]) or {}
    return of_flavor(loader, flavor)


def of_flavor(loader: str, flavor: dict[str, Any]) -> str:
    """Why a flavor that is read without MLflow may run code, by what `MLmodel` says of it."""
    if loader == "mlflow.sklearn" or (
        loader == "mlflow.lightgbm" and flavor.get("model_class", _BOOSTER) != _BOOSTER
    ):
        form = flavor.get("serialization_format") or "pickle"
        return _of_skops(flavor) if form == "skops" else f"is saved in the format '{form}'"
    if loader == "mlflow.onnx":
        return _of_onnx(flavor.get("onnx_session_options") or {})
    return ""


_BOOSTER = "lightgbm.basic.Booster"


def pytorch(settings: ModelSettings) -> str:
    """TorchScript is a program, which may write files, and weights need a class."""
    return "is a program of PyTorch's, or needs a class of its own"


def keras(settings: ModelSettings) -> str:
    """A Keras file names the classes to make, and its `safe_mode` was passed again and again."""
    return "is a Keras file, which names the classes that are made of it"


def tensorflow(settings: ModelSettings) -> str:
    """A SavedModel is a program, in TensorFlow's own words."""
    return "is a program of TensorFlow's, which may read and write files"


def spark(settings: ModelSettings) -> str:
    """Spark imports the classes that its files name."""
    return "is a Spark model, which names the classes that are imported for it"


def pickle(settings: ModelSettings) -> str:
    """The runtime opens nothing else."""
    return "is a pickle"


def _of_onnx(options: dict[str, Any]) -> str:
    named = [key for key in _LOADING if options.get(key)]
    return f"sets {listing(named)}, which may load libraries" if named else ""


# Options of ONNX Runtime's providers and sessions; the last one is MLflow's name for the second.
_LOADING = ("provider_options", "session_config_entries", "extra_session_config")


def _of_skops(options: dict[str, Any]) -> str:
    return f"trusts further types ({TRUSTED})" if options.get(TRUSTED) else ""


def _pickle(path: str) -> str:
    return f"is a pickle ('{shorten(os.path.basename(path))}')"
