"""Hugging Face models as Transformers pipelines, computed by PyTorch."""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
from collections.abc import Iterator
from typing import Any

from headrace.codecs.huggingface_content import encode_rows
from headrace.errors import InvalidInput, InvalidModel, MissingDependency, listing, shorten
from headrace.model import Model, declared
from headrace.protocol.messages import (
    InferenceRequest,
    InferenceResponse,
    ModelMetadata,
    TensorMetadata,
)
from headrace.runtimes import artefact, catalog, trust
from headrace.runtimes.huggingface import (
    pipeline_answer,
    pipeline_call,
    pipeline_media,
    pipeline_task,
)
from headrace.runtimes.tensors import torch_device
from headrace.settings import ModelSettings

OUTPUT = "output"
_ALIASES = catalog.named("huggingface").mlserver_aliases
# While it creates a model, Transformers changes PyTorch for the whole process: the functions that
# initialize weights, and their default type.
_MAKING = threading.Lock()
_NO_TASK = re.compile(r"Unknown task|has been removed")
_NEEDED = re.compile(r"requires (?:the )?([\w.-]+)")
_PREFIXES = ("MLSERVER_MODEL_HUGGINGFACE_", "HEADRACE_MODEL_HUGGINGFACE_")
_SETTINGS = (
    "task", "task_suffix", "pretrained_model", "pretrained_tokenizer", "model_kwargs", "framework",
    "optimum_model", "device", "inter_op_threads", "intra_op_threads", "trust_remote_code",
    "fetch_inputs", "batchable",
)  # fmt: skip

# In these, the answer to a row does not depend on the other rows, and each row has one answer.
_BY_ROW = {
    "text-classification", "sentiment-analysis", "token-classification", "ner", "fill-mask",
    "feature-extraction", "text-generation", "image-classification", "image-feature-extraction",
    "audio-classification", "automatic-speech-recognition", "object-detection",
    "zero-shot-classification", "zero-shot-image-classification", "zero-shot-audio-classification",
    "zero-shot-object-detection", "question-answering", "visual-question-answering",
    "document-question-answering", "table-question-answering", "image-segmentation",
    "depth-estimation", "keypoint-matching", "video-classification", "decision",
}  # fmt: skip

# These compute rows one by one: the answer would show the padding that a longer neighbour
# brings, or the pipeline cannot put rows of different sizes together.
_SINGLY = {
    "feature-extraction", "zero-shot-object-detection", "document-question-answering",
    "table-question-answering", "mask-generation", "keypoint-matching", "text-to-audio",
    "decision",
}  # fmt: skip
_MIXED = {"image-text-to-text", "any-to-any"}


class HuggingFaceRuntime(Model):
    """Serve a `transformers.pipeline` of any task, with the inputs and outputs of MLServer.

    `parameters.extra`, or variables named `MLSERVER_MODEL_HUGGINGFACE_*`, choose the `task`
    and the model: `pretrained_model`, else the uri. The only output holds a JSON text per
    row, except where `pipeline_answer.spread` says otherwise. `max_batch_size` is also the
    number of rows that the pipeline computes at once; above 1, requests may be merged. Code
    that comes with a model runs only with `trust_remote_code`.
    """

    platform = "huggingface"

    def load(self) -> None:
        artefact.require("torch", "huggingface")
        transformers = artefact.require("transformers", "huggingface")
        extra = extra_of(self.settings)
        _check(extra)
        torch_device.set_threads(extra)
        self._device = torch_device.choose(extra)
        self._size = max(1, self.settings.max_batch_size or 1)
        self._fetch = is_true(extra.get("fetch_inputs"))
        what = f"the Hugging Face model '{self.settings.name}'"
        with _MAKING:
            self._pipeline = artefact.read(what, lambda: self._make(transformers, extra))
        self._task = pipeline_task.task_of(self._pipeline)
        pipeline_task.check(self._task.name)
        if is_true(extra.get("batchable")) and self._task.name not in _BY_ROW:
            raise InvalidModel(f"the task '{shorten(self._task.name)}' cannot be batchable")
        self.row_independent = is_true(extra.get("batchable"))
        self._fixed_size = pipeline_task.has_fixed_size(self._pipeline)
        self._merged = self.row_independent or self._size > 1
        # The answers to merged requests are split by rows.
        self._spreads = self.settings.implementation in _ALIASES and not self._merged

    def unload(self) -> None:
        self._pipeline = None
        torch_device.release()

    def metadata(self) -> ModelMetadata:
        output = TensorMetadata(OUTPUT, "BYTES", [-1], {"content_type": "hg_jsonlist"})
        return ModelMetadata(
            platform=self.settings.platform or self.platform,
            inputs=declared(self.settings.inputs) or pipeline_task.inputs_of(self._task.name),
            outputs=declared(self.settings.outputs) or [output],
            parameters={
                "content_type": "hf",
                "task": self._task.name,
                "device": str(self._device),
            },
            row_independent=self.row_independent,
        )

    def infer(self, request: InferenceRequest) -> InferenceResponse:
        """Call the pipeline once with all rows.

        Raises:
            InvalidInput: an input or option is unknown, or is not what the task takes.
        """
        for name in request.outputs or ():
            if name != OUTPUT:
                raise InvalidInput(
                    f"output '{shorten(name)}' is not available, this model has '{OUTPUT}'"
                )
        call = pipeline_call.bind(request, self._task, self._merged)
        where = f"input {listing([tensor.name for tensor in request.inputs])}"
        with self._readable(call, where) as inputs:
            found = self._call(inputs, call.options)
        rows = pipeline_answer.rows_of(found, call.rows, self._task.name)
        if self._spreads and call.rows == 1:
            names = [tensor.name for tensor in request.inputs]
            rows = pipeline_answer.spread(rows, names, self._task.name)
        return InferenceResponse([encode_rows(rows, OUTPUT)], {"content_type": "hf"})

    @contextlib.contextmanager
    def _readable(self, call: pipeline_call.Call, where: str) -> Iterator[Any]:
        """The inputs of a call with their media decoded."""
        inputs, fetch = call.inputs, self._fetch
        medium = self._task.medium
        if medium == "image":
            yield pipeline_media.images_in(inputs, where, fetch)
        elif medium == "sound":
            rate = self._pipeline.feature_extractor.sampling_rate
            given = call.options.pop("sampling_rate", None)
            yield pipeline_media.sounds_of(_listed(inputs), rate, given, where, fetch)
        elif medium == "video":
            with pipeline_media.videos_as_files(_listed(inputs), where, fetch) as names:
                yield names
        elif self._task.name == "text-to-audio":
            # A chat may bring the voice to speak with.
            yield [
                row if isinstance(row, str) else pipeline_media.images_in(row, where, fetch)
                for row in _listed(inputs)
            ]
        else:
            yield inputs

    def _call(self, inputs: Any, options: dict[str, Any]) -> Any:
        task = self._task
        if task.packed:
            packed = {name: _tensor(options.pop(name)) for name in task.generation & set(options)}
            options = {**options, task.packed: packed}
        try:
            if task.name in _MIXED and isinstance(inputs, list):
                # These would treat a list of rows as one row, or as a chat.
                return [self._pipeline(_text_alone(row), **options) for row in inputs]
            return self._pipeline(inputs, batch_size=self._step(inputs), **options)
        except Exception as error:
            refused = pipeline_answer.refusal(error, task.name, options)
            if refused is None:
                raise
            raise refused from error

    def _step(self, inputs: Any) -> int:
        """How many rows may be computed at once without one changing another's answer."""
        if self._task.name in _SINGLY or not isinstance(inputs, list):
            return 1
        alike = pipeline_media.are_alike(inputs)
        return self._size if alike or self._fixed_size else 1

    def _make(self, transformers: Any, extra: dict[str, Any]) -> Any:
        local = artefact.folder_or_file(self.settings)
        model = self._local_or_hub(extra.get("pretrained_model"))
        if not model and not os.path.isfile(os.path.join(local, "config.json")):
            raise InvalidModel(
                f"model '{self.settings.name}': its folder has no config.json; name the model "
                "in parameters.extra.pretrained_model or save it there"
            )
        task = extra.get("task")
        if task and extra.get("task_suffix"):
            task = f"{task}_{extra['task_suffix']}"
        if not task and os.path.isdir(model or local):
            raise InvalidModel("parameters.extra.task is missing; a folder does not name its task")
        pipeline_task.check(task)
        options = dict(extra.get("model_kwargs") or {})
        if self.settings.trust == trust.FORMATS:
            # Other weights are pickles.
            options["use_safetensors"] = True
        try:
            pipeline = transformers.pipeline(
                task or None,
                model=model or local,
                tokenizer=self._local_or_hub(extra.get("pretrained_tokenizer")),
                device=self._device,
                model_kwargs=options,
                trust_remote_code=is_true(extra.get("trust_remote_code")),
            )
        except KeyError as error:
            if not _NO_TASK.search(str(error)):
                raise
            raise pipeline_task.unknown(str(task), transformers) from error
        except ImportError as error:
            needed = _NEEDED.search(str(error))
            if not needed:
                raise
            raise MissingDependency(
                f"the model needs {needed.group(1)}, which is not installed"
            ) from error
        _pad(pipeline)
        return pipeline

    def _local_or_hub(self, name: str | None) -> str | None:
        """The folder of that name next to the settings, or else the name, for the Hub."""
        folder = os.path.join(self.settings.folder, name or "")
        return folder if name and os.path.isdir(folder) else name


def extra_of(settings: ModelSettings) -> dict[str, Any]:
    """The runtime's settings: `parameters.extra`, else variables, else Seldon's parameters."""
    found: dict[str, Any] = {}
    try:
        for row in json.loads(os.environ.get("PREDICTIVE_UNIT_PARAMETERS") or "[]"):
            if row.get("name") in _SETTINGS:
                found[row["name"]] = row.get("value")
    except (ValueError, AttributeError, TypeError) as error:
        raise InvalidModel("PREDICTIVE_UNIT_PARAMETERS is not a JSON list of parameters") from error
    for prefix in _PREFIXES:
        for name in _SETTINGS:
            value = os.environ.get(prefix + name.upper())
            if value:
                found[name] = value
    return {**found, **settings.extra}


def _check(extra: dict[str, Any]) -> None:
    if extra.get("framework") not in (None, "", "pt"):
        raise InvalidModel("framework: Transformers only runs on PyTorch, expected 'pt'")
    if is_true(extra.get("optimum_model")):
        raise InvalidModel("optimum_model: export the model to ONNX and serve it with 'onnx'")
    unknown = [name for name in extra if name not in _SETTINGS]
    if unknown:
        raise InvalidModel(f"parameters.extra has unknown keys {listing(unknown)}")


def is_true(value: Any) -> bool:
    """Whether a setting, which may be the text of a variable, is switched on."""
    return str(value).lower() in ("true", "1", "yes")


def _pad(pipeline: Any) -> None:
    """Allow several rows to be computed at once with a tokenizer that has no padding."""
    tokenizer = getattr(pipeline, "tokenizer", None)
    if tokenizer is None:
        return
    if pipeline.task == "text-generation":
        # Generation continues from the last token, which must not be padding.
        tokenizer.padding_side = "left"
    end = getattr(pipeline.model.config, "eos_token_id", None)
    end = end[0] if isinstance(end, list) else end
    if tokenizer.pad_token_id is None and end is not None:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(end)


def _listed(inputs: Any) -> list[Any]:
    return inputs if isinstance(inputs, list) else [inputs]


def _text_alone(row: Any) -> Any:
    """The text of a row that has nothing else; it may be a chat."""
    return row["text"] if isinstance(row, dict) and list(row) == ["text"] else row


def _tensor(value: Any) -> Any:
    """Rows of an array as a tensor, such as the embedding of a speaker."""
    if not (isinstance(value, list) and value and hasattr(value[0], "__array__")):
        return value
    import numpy as np
    import torch

    return torch.from_numpy(np.stack(value))
