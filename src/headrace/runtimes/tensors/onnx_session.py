"""ONNX Runtime sessions: graphs loaded with the options of a settings file."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any

from headrace.errors import InvalidModel, listing, shorten
from headrace.runtimes import artefact, openmp

logger = logging.getLogger("headrace.worker")

CPU = "CPUExecutionProvider"
_DEFAULT = ("CUDAExecutionProvider", CPU)
_DEVICES = {"CUDA": "cuda", "Tensorrt": "cuda", "NvTensorRtRtx": "cuda", "CPU": "cpu"}

# These leave out options with which a settings file could make the worker write files or load
# libraries.
_OPTIONS = (
    *("enable_cpu_mem_arena", "enable_mem_pattern", "enable_mem_reuse", "execution_mode"),
    *("graph_optimization_level", "inter_op_num_threads", "intra_op_num_threads"),
    *("log_severity_level", "log_verbosity_level", "use_deterministic_compute"),
)
_RUN_OPTIONS = ("log_severity_level", "log_verbosity_level", "only_execute_path_to_fetches")
_ENUMS = {
    "execution_mode": ("ExecutionMode", "ORT_"),
    "graph_optimization_level": ("GraphOptimizationLevel", "ORT_"),
}


def open_session(path: str, extra: dict[str, Any], what: str) -> Any:
    """Load the graph at `path` with the options in `extra`.

    `providers`, `provider_options`, `session_options` and `session_config_entries` are those
    of ONNX Runtime. CUDA is used where it is available, unless `providers` says otherwise.

    Raises:
        InvalidModel: an option is unknown, a provider is not available and the CPU is not named
            as its substitute, or the file is not an ONNX model.
    """
    ort = artefact.require("onnxruntime", "onnx")
    requested = _requested(extra)
    providers, provider_options = _providers(ort, requested, extra.get("provider_options"), what)
    options = ort.SessionOptions()
    # 0 stands for all processors of the machine.
    options.intra_op_num_threads = options.inter_op_num_threads = openmp.thread_count(0)
    _set(ort, options, extra.get("session_options") or {}, _OPTIONS, what)
    for key, value in (extra.get("session_config_entries") or {}).items():
        options.add_session_config_entry(str(key), str(value))
    session = artefact.read(
        what,
        lambda: ort.InferenceSession(
            path, options, providers=providers, provider_options=provider_options
        ),
    )
    lost = [name for name in providers if name not in session.get_providers()]
    if lost:
        _refuse_or_warn(requested, lost, "did not start on this machine", what)
    return session


def run_options(extra: dict[str, Any], what: str) -> Any:
    """Options of every run, or None.

    Raises:
        InvalidModel: an option is unknown.
    """
    raw = extra.get("run_options")
    if not raw:
        return None
    ort = artefact.require("onnxruntime", "onnx")
    options = ort.RunOptions()
    _set(ort, options, raw, _RUN_OPTIONS, what)
    return options


def device(session: Any) -> str:
    """Where the session computes: `cpu`, `cuda`, or the first provider's name."""
    name = str(session.get_providers()[0]).partition("ExecutionProvider")[0]
    return _DEVICES.get(name, name.lower())


def _requested(extra: dict[str, Any]) -> Sequence[str] | None:
    """The providers that settings or the environment name, in order of preference."""
    given = extra.get("providers")
    for prefix in ("HEADRACE", "MLSERVER"):
        given = given or os.environ.get(f"{prefix}_MODEL_ONNX_PROVIDERS")
    if isinstance(given, str):
        given = [name.strip(" \"'") for name in given.strip("[] ").split(",")]
    return [str(name) for name in given] if given else None


def _providers(
    ort: Any, requested: Sequence[str] | None, options: Any, what: str
) -> tuple[list[str], list[dict[str, Any]]]:
    available = ort.get_available_providers()
    names = list(_DEFAULT if requested is None else requested)
    usable = [name for name in names if name in available]
    missing = [name for name in names if name not in available]
    if missing:
        _refuse_or_warn(requested, missing, f"available are {listing(available)}", what)
    rows = options or [{}] * len(names)
    if isinstance(options, dict):
        rows = [options.get(name, {}) for name in names]
    if len(rows) != len(names):
        raise InvalidModel(
            f"{what}: provider_options must have one entry per provider, "
            f"{len(names)}, got {len(rows)}"
        )
    return usable, [row for name, row in zip(names, rows) if name in available]


def _refuse_or_warn(requested: Sequence[str] | None, names: list[str], why: str, what: str) -> None:
    if requested is None:
        return
    text = f"{what}: execution provider {listing(names)} is not available; {why}"
    if CPU not in requested:
        raise InvalidModel(text)
    logger.warning("%s; using the CPU instead", text)


def _set(ort: Any, target: Any, raw: dict[str, Any], known: Sequence[str], what: str) -> None:
    for name, value in raw.items():
        if name not in known:
            raise InvalidModel(
                f"{what}: unknown option '{shorten(name)}', expected one of {', '.join(known)}"
            )
        try:
            setattr(target, name, _enum(ort, name, value))
        except (TypeError, ValueError, KeyError) as error:
            raise InvalidModel(f"{what}: option '{name}' has an invalid value") from error


def _enum(ort: Any, name: str, value: Any) -> Any:
    if name not in _ENUMS:
        return value
    enum, prefix = _ENUMS[name]
    members = getattr(ort, enum)
    if isinstance(value, int):
        return members(value)
    word = str(value).upper()
    return members.__members__[word if word.startswith(prefix) else prefix + word]
