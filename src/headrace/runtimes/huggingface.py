"""Hugging Face models as Transformers pipelines, computed by PyTorch."""

from __future__ import annotations

import json
import os
import re
from typing import Any

from headrace.codecs.huggingface import encode_rows
from headrace.errors import InvalidInput, LoadFailed, listing, shorten
from headrace.model import Model, declared
from headrace.protocol.messages import (
    InferenceRequest,
    InferenceResponse,
    ModelMetadata,
    TensorMetadata,
)
from headrace.runtimes import artefact, huggingface_call, torch_device
from headrace.settings import ModelSettings

OUTPUT = "output"
_MISFIT = re.compile(r"unexpected keyword argument|missing \d+ required positional argument")
_PREFIXES = ("MLSERVER_MODEL_HUGGINGFACE_", "HEADRACE_MODEL_HUGGINGFACE_")
_SETTINGS = (
    "task", "task_suffix", "pretrained_model", "pretrained_tokenizer", "model_kwargs", "framework",
    "optimum_model", "device", "inter_op_threads", "intra_op_threads", "trust_remote_code",
    "fetch_inputs", "batchable",
)  # fmt: skip

# Their answer to a row does not depend on the other rows, and each row has one answer.
_BY_ROW = {
    "text-classification", "sentiment-analysis", "token-classification", "ner", "fill-mask",
    "feature-extraction", "text-generation", "image-classification", "image-feature-extraction",
    "audio-classification", "object-detection", "zero-shot-classification",
    "question-answering",
}  # fmt: skip

# Their answer shows the padding that a longer neighbour brings, so rows are computed singly.
_SHOWS_PADDING = {"feature-extraction"}


class HuggingFaceRuntime(Model):
    """Serve a `transformers.pipeline` of any task, with the inputs and outputs of MLServer's.

    `parameters.extra`, or variables named `MLSERVER_MODEL_HUGGINGFACE_*`, choose the `task`
    and the model: `pretrained_model`, else the uri. The one output holds a JSON text per
    row. `max_batch_size` is also how many rows the pipeline computes at once; above 1 it lets
    requests be merged. Code that comes with a model runs only with `trust_remote_code`.
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
        self._fetch = _truth(extra.get("fetch_inputs"))
        what = f"the Hugging Face model '{self.settings.name}'"
        self._pipeline = artefact.read(what, lambda: self._make(transformers, extra))
        self._task = huggingface_call.task_of(self._pipeline)
        if _truth(extra.get("batchable")) and self._task.name not in _BY_ROW:
            raise LoadFailed(f"the task '{shorten(self._task.name)}' cannot be batchable")
        self.row_independent = _truth(extra.get("batchable"))
        self._step = 1 if self._task.name in _SHOWS_PADDING else self._size
        self._merged = self.row_independent or self._size > 1

    def unload(self) -> None:
        self._pipeline = None
        torch_device.release()

    def metadata(self) -> ModelMetadata:
        output = TensorMetadata(OUTPUT, "BYTES", [-1], {"content_type": "hg_jsonlist"})
        return ModelMetadata(
            platform=self.settings.platform or self.platform,
            inputs=declared(self.settings.inputs) or huggingface_call.inputs_of(self._task.name),
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
        call = huggingface_call.bind(request, self._task, self._merged)
        if huggingface_call.is_media(self._task.name) and not self._fetch:
            where = f"input {listing([tensor.name for tensor in request.inputs])}"
            huggingface_call.refuse_names([call.positional, call.keywords], where)
        found = self._call(call)
        return InferenceResponse(
            [encode_rows(_rows(found, call.rows), OUTPUT)], {"content_type": "hf"}
        )

    def _call(self, call: huggingface_call.Call) -> Any:
        try:
            return self._pipeline(*call.positional, batch_size=self._step, **call.keywords)
        except Exception as error:
            if type(error).__name__ == "PipelineException":
                raise InvalidInput(
                    f"the task '{self._task.name}' refuses the input: {shorten(error, 160)}"
                ) from error
            if isinstance(error, TypeError) and _MISFIT.search(str(error)):
                raise InvalidInput(
                    f"the task '{self._task.name}' misses an input, or takes none of options "
                    f"{listing(sorted(call.keywords)) or 'none'}"
                ) from error
            raise

    def _make(self, transformers: Any, extra: dict[str, Any]) -> Any:
        local = artefact.folder_or_file(self.settings)
        model = self._beside(extra.get("pretrained_model"))
        if not model and not os.path.isfile(os.path.join(local, "config.json")):
            raise LoadFailed(
                f"model '{self.settings.name}': its folder has no config.json; name the model "
                "in parameters.extra.pretrained_model or save it there"
            )
        task = extra.get("task")
        if task and extra.get("task_suffix"):
            task = f"{task}_{extra['task_suffix']}"
        pipeline = transformers.pipeline(
            task or None,
            model=model or local,
            tokenizer=self._beside(extra.get("pretrained_tokenizer")),
            device=self._device,
            model_kwargs=extra.get("model_kwargs") or {},
            trust_remote_code=_truth(extra.get("trust_remote_code")),
        )
        _pad(pipeline)
        return pipeline

    def _beside(self, name: str | None) -> str | None:
        """A name of the Hub as it is, or the folder of that name beside the settings."""
        folder = os.path.join(self.settings.folder, name or "")
        return folder if name and os.path.isdir(folder) else name


def extra_of(settings: ModelSettings) -> dict[str, Any]:
    """The runtime's settings: `parameters.extra`, over variables, over Seldon's parameters."""
    found: dict[str, Any] = {}
    try:
        for row in json.loads(os.environ.get("PREDICTIVE_UNIT_PARAMETERS") or "[]"):
            if row.get("name") in _SETTINGS:
                found[row["name"]] = row.get("value")
    except (ValueError, AttributeError, TypeError) as error:
        raise LoadFailed("PREDICTIVE_UNIT_PARAMETERS is not a JSON list of parameters") from error
    for prefix in _PREFIXES:
        for name in _SETTINGS:
            value = os.environ.get(prefix + name.upper())
            if value:
                found[name] = value
    return {**found, **settings.extra}


def _check(extra: dict[str, Any]) -> None:
    if extra.get("framework") not in (None, "", "pt"):
        raise LoadFailed("framework: Transformers computes with PyTorch only, expected 'pt'")
    if _truth(extra.get("optimum_model")):
        raise LoadFailed("optimum_model: export the model to ONNX and serve it with 'onnx'")
    unknown = [name for name in extra if name not in _SETTINGS]
    if unknown:
        raise LoadFailed(f"parameters.extra has unknown keys {listing(unknown)}")


def _truth(value: Any) -> bool:
    return str(value).lower() in ("true", "1", "yes")


def _pad(pipeline: Any) -> None:
    """Let several rows be computed at once with a tokenizer that knows no padding."""
    tokenizer = getattr(pipeline, "tokenizer", None)
    if tokenizer is None or tokenizer.pad_token_id is not None:
        return
    end = getattr(pipeline.model.config, "eos_token_id", None)
    end = end[0] if isinstance(end, list) else end
    if end is not None:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(end)
        if pipeline.task == "text-generation":
            # Generation goes on from the last token, which must not be padding.
            tokenizer.padding_side = "left"


def _rows(found: Any, rows: int) -> list[Any]:
    """One value per row of the input; pipelines unwrap the only one now and then."""
    if isinstance(found, list) and len(found) == rows and rows > 0:
        # fill-mask answers its only row with the list of fillings.
        is_unwrapped = rows == 1 and isinstance(found[0], dict) and "token_str" in found[0]
        return [found] if is_unwrapped else found
    return [found] if rows <= 1 else list(found)
