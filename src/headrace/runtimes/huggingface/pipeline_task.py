"""What a task of Transformers takes: its inputs, and which options callers may set."""

from __future__ import annotations

import importlib.util
import inspect
import re
from typing import Any, NamedTuple

from headrace.errors import InvalidModel, MissingDependency, listing, shorten
from headrace.protocol.messages import TensorMetadata

# These load code, files or other models, start processes, or are not the caller's to choose.
_DENIED = {
    "self", "args", "kwargs", "batch_size", "num_workers", "device", "model", "tokenizer",
    "trust_remote_code", "token", "custom_generate", "assistant_model", "transformers_version",
    "chat_template", "parameters",
}  # fmt: skip
# Dicts of further options, which may include those above.
_DENIED_KINDS = re.compile(r"_(kwargs|params|config)$")

# Options that a pipeline reads from its `**kwargs`, which no signature shows.
_OF_TASK: dict[str, tuple[str, ...]] = {
    "zero-shot-classification": ("candidate_labels", "hypothesis_template", "multi_label"),
    "zero-shot-image-classification": ("candidate_labels", "hypothesis_template"),
    "zero-shot-audio-classification": ("candidate_labels", "hypothesis_template"),
    "zero-shot-object-detection": ("candidate_labels", "threshold", "top_k"),
    "question-answering": (
        "top_k", "doc_stride", "max_answer_len", "max_seq_len",
        "max_question_len", "handle_impossible_answer", "align_to_words",
    ),
    "visual-question-answering": ("top_k",),
    "object-detection": ("threshold",),
    "image-segmentation": ("subtask", "threshold", "mask_threshold", "overlap_mask_area_threshold"),
    "mask-generation": (
        "points_per_batch", "points_per_crop", "crops_n_layers", "crop_overlap_ratio",
        "crop_n_points_downscale_factor", "crops_nms_thresh", "mask_threshold", "pred_iou_thresh",
        "stability_score_thresh", "stability_score_offset", "max_hole_area", "max_sprinkle_area",
        "output_rle_mask", "output_bboxes_mask",
    ),
}  # fmt: skip

# Where a pipeline takes the options of generation: among its own, or in a dict of this name.
_GENERATION = {
    "text-generation": "",
    "automatic-speech-recognition": "",
    "summarization": "",
    "translation": "",
    "text2text-generation": "",
    "image-to-text": "generate_kwargs",
    "image-text-to-text": "generate_kwargs",
    "any-to-any": "generate_kwargs",
    "text-to-audio": "forward_params",
}

# Inputs that together make one row, and how a client sends each.
_COLUMNS: dict[str, dict[str, str]] = {
    "question-answering": {"question": "str", "context": "str"},
    "table-question-answering": {"table": "hg_jsonlist", "query": "str"},
    "visual-question-answering": {"image": "pillow_image", "question": "str"},
    "document-question-answering": {
        "image": "pillow_image", "question": "str", "word_boxes": "hg_jsonlist",
    },
    "image-text-to-text": {"images": "pillow_image", "text": "str"},
    "any-to-any": {"images": "pillow_image", "text": "str"},
}  # fmt: skip

_SOUND = (
    "automatic-speech-recognition", "audio-classification", "zero-shot-audio-classification",
)  # fmt: skip
_VIDEO = ("video-classification",)
_IMAGE = ("image", "visual", "document", "object-detection", "depth", "mask-", "keypoint", "any-to")

# Packages that Transformers looks for only when the first request comes, or that the model's own
# files do not name.
_PACKAGES = {
    "mask-generation": "torchvision",
    "any-to-any": "torchvision",
    "video-classification": "av",
    "table-question-answering": "pandas",
}
_GONE = (
    "summarization", "translation", "text2text-generation", "question-answering",
    "visual-question-answering", "vqa", "image-to-image",
)  # fmt: skip


class Task(NamedTuple):
    """What a pipeline does, and what it takes.

    `leading` is the name of its first argument, `columns` the inputs that together make one
    row. `options` are those that callers may set; the ones in `generation` are passed in a dict
    named `packed`, unless that is empty. `medium` is `image`, `sound`, `video` or empty.
    """

    name: str
    leading: str
    columns: dict[str, str]
    options: set[str]
    generation: set[str]
    packed: str
    medium: str


def task_of(pipeline: Any) -> Task:
    """The task of a pipeline, derived from its signatures."""
    name = pipeline.task
    columns = _COLUMNS.get(name, {})
    found = set(_OF_TASK.get(name, ()))
    call = inspect.signature(type(pipeline).__call__).parameters
    leading = next(parameter for parameter in call if parameter != "self")
    found |= set(call) | set(inspect.signature(pipeline._sanitize_parameters).parameters)
    packed = _GENERATION.get("translation" if name.startswith("translation") else name)
    generation = set() if packed is None else _generation_of(pipeline)
    if medium_of(name) == "sound":
        found.add("sampling_rate")
    options = {
        option
        for option in found | generation
        if option not in _DENIED and not _DENIED_KINDS.search(option)
    } - {leading, *columns}
    return Task(
        name, leading, columns, options, generation & options, packed or "", medium_of(name)
    )


def _generation_of(pipeline: Any) -> set[str]:
    model = getattr(pipeline, "model", None)
    config = getattr(pipeline, "generation_config", None) or getattr(
        model, "generation_config", None
    )
    found = {name for name in vars(config) if not name.startswith("_")} if config else set()
    if model is not None and pipeline.task == "text-to-audio":
        parameters = inspect.signature(model.forward).parameters
        found |= {name for name in parameters if name.startswith("speak")}
    return found


def medium_of(task: str) -> str:
    """The medium of a task's inputs, which its pipeline may fetch by name; empty for none."""
    if task in _SOUND:
        return "sound"
    if task in _VIDEO:
        return "video"
    # The questions of a decision may come with images.
    return "image" if task == "decision" or any(word in task for word in _IMAGE) else ""


def has_fixed_size(pipeline: Any) -> bool:
    """Whether images or sounds of any size are brought to one size before the model sees them."""
    images = getattr(pipeline, "image_processor", None)
    if images is not None:
        size = dict(getattr(images, "size", None) or {})
        whole = size.get("height") and size.get("width")
        return bool(getattr(images, "do_center_crop", False) or whole)
    # Whisper pads all sounds to half a minute.
    return hasattr(getattr(pipeline, "feature_extractor", None), "n_samples")


def inputs_of(task: str) -> list[TensorMetadata]:
    """How a client sees the inputs of a task."""
    if task in _COLUMNS:
        return [_bytes(name, kind) for name, kind in _COLUMNS[task].items()]
    medium = medium_of(task)
    if medium == "sound":
        first = TensorMetadata("array_inputs", "FP32", [-1, -1], {"content_type": "nplist"})
    elif task == "keypoint-matching":
        first = TensorMetadata("args", "BYTES", [-1, 2], {"content_type": "pillow_image"})
    elif task == "decision":
        first = _bytes("args", "hg_jsonlist")
    else:
        first = _bytes("args", {"image": "pillow_image", "video": "base64"}.get(medium, "str"))
    return [first, _bytes("candidate_labels", "str")] if task.startswith("zero-shot") else [first]


def check(name: str | None) -> None:
    """Refuse a task for which a package is missing.

    Raises:
        MissingDependency: the message has the command that installs it.
    """
    package = _PACKAGES.get(name or "")
    if package and importlib.util.find_spec(package) is None:
        raise MissingDependency(
            f"the task '{name}' needs {package}, which is not installed: pip install {package}"
        )


def unknown(name: str, transformers: Any) -> InvalidModel:
    """The error for a task that this version of Transformers does not have."""
    version = shorten(transformers.__version__)
    if name in _GONE or name.startswith("translation"):
        return InvalidModel(
            f"the task '{shorten(name)}' is not in Transformers {version}, which dropped it: "
            "pip install 'transformers<5'"
        )
    known = sorted(transformers.pipelines.SUPPORTED_TASKS)
    return InvalidModel(
        f"the task '{shorten(name)}' is not in Transformers {version}, which has "
        f"{listing(known, 40)}"
    )


def _bytes(name: str, content_type: str) -> TensorMetadata:
    return TensorMetadata(name, "BYTES", [-1], {"content_type": content_type})
