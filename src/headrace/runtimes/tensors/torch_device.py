"""Where PyTorch computes: the device of a model, and the threads of its worker."""

from __future__ import annotations

import gc
import logging
from typing import Any

from headrace.errors import InvalidModel, shorten

logger = logging.getLogger(__name__)


def choose(extra: dict[str, Any]) -> Any:
    """The `torch.device` of `extra["device"]`; by default the first GPU, else the CPU.

    A number is the GPU of that index, and a negative one the CPU, as in Transformers.

    Raises:
        InvalidModel: PyTorch does not know the device, or this machine does not have it.
    """
    import torch

    wanted = extra.get("device")
    if wanted is None or wanted == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    if str(wanted).lstrip("-").isdecimal():
        wanted = "cpu" if int(wanted) < 0 else f"cuda:{wanted}"
    try:
        device = torch.device(wanted)
    except (RuntimeError, TypeError) as error:
        raise InvalidModel(f"device '{shorten(wanted)}' is unknown to PyTorch") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InvalidModel(
            f"device '{shorten(wanted)}': PyTorch sees {torch.cuda.device_count()} GPUs here"
        )
    return device


def set_threads(extra: dict[str, Any]) -> None:
    """Apply `extra["intra_op_threads"]` and `inter_op_threads`, to all models of the worker."""
    import torch

    within = extra.get("intra_op_threads")
    between = extra.get("inter_op_threads")
    if within is not None:
        torch.set_num_threads(int(within))
    if between is not None and torch.get_num_interop_threads() != int(between):
        try:
            torch.set_num_interop_threads(int(between))
        except RuntimeError:
            # PyTorch accepts it only before its first parallel work.
            logger.warning("inter_op_threads is ignored: it comes too late in this worker")


def release() -> None:
    """Free the memory of tensors that nothing refers to any more."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
