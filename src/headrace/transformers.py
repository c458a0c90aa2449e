"""Pipelines and pretrained models of Hugging Face's Transformers in the model store."""

from __future__ import annotations

from typing import Any, Unpack

from headrace.errors import InvalidModel
from headrace.frameworks.framework import Framework, Kept
from headrace.models import StoredModel

FRAMEWORK = Framework(
    "transformers",
    "huggingface",
    ("transformers", "torch"),
    method="__call__",
    only=("__call__",),
)
FOLDER = "pretrained"
_TASK, _CLASS = "task", "class"


def save_model(name: str, model: Any, **kept: Unpack[Kept]) -> StoredModel:
    """Save a pipeline, pretrained model, tokenizer or processor under a new version of `name`.

    All are written by their own `save_pretrained`, the weights as safetensors. Only a pipeline
    can be served. See `headrace.frameworks.framework.Kept` for what else is kept.

    Raises:
        TypeError: it has no `save_pretrained`.
        InvalidInput: a signature names a method other than `__call__`.
    """
    transformers = FRAMEWORK.require("transformers")
    is_pipeline = isinstance(model, transformers.Pipeline)
    own = type(model).__module__.partition(".")[0] == "transformers"
    if not is_pipeline and not (own and hasattr(model, "save_pretrained")):
        raise FRAMEWORK.refuse(model, "a pipeline, pretrained model, tokenizer or processor")
    options = {_TASK: model.task} if is_pipeline else {_CLASS: type(model).__name__}
    with FRAMEWORK.saving(name, model, kept, options) as stored:
        model.save_pretrained(stored.path_of(FOLDER))
    return stored


def load_model(tag: Any, **options: Any) -> Any:
    """The pipeline or pretrained object of a tag, or of a stored model.

    `options` are those of `transformers.pipeline` or of the class's `from_pretrained`.

    Raises:
        NotFound: there is no such model, or another module saved it.
        InvalidModel: its files are not as they were stored.
    """
    stored = FRAMEWORK.checked(tag)
    transformers = FRAMEWORK.require("transformers")
    path, saved = _folder(stored), stored.info.options
    if saved.get(_TASK):
        return transformers.pipeline(saved[_TASK], model=path, **options)
    return getattr(transformers, saved[_CLASS]).from_pretrained(path, **options)


def get(tag: Any) -> StoredModel:
    """The stored model of a tag.

    Raises:
        NotFound: no such model is stored, or another module saved it.
    """
    return FRAMEWORK.get(tag)


def settings_of(stored: StoredModel) -> dict[str, Any]:
    """The fields of `ModelSettings` by which a worker serves it.

    Raises:
        InvalidModel: it is not a pipeline.
    """
    task = stored.info.options.get(_TASK)
    if not task:
        raise InvalidModel(
            f"model '{stored.tag}' is a {stored.info.options.get(_CLASS)}; only pipelines can be "
            "served, so save transformers.pipeline(task, model=..., tokenizer=...)"
        )
    return FRAMEWORK.settings(stored, _folder(stored), task=task)


def _folder(stored: StoredModel) -> str:
    # BentoML writes into the model's folder itself.
    path = FRAMEWORK.file(stored, FOLDER, "config.json")
    return path if path.endswith(FOLDER) else stored.path
