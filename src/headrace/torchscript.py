"""TorchScript modules in the model store."""

from __future__ import annotations

from typing import Any, Unpack

from headrace.frameworks.framework import Framework, Kept
from headrace.models import StoredModel

FRAMEWORK = Framework("torchscript", "pytorch", ("torch",), method="__call__", answers="torch")
FILE = "model.pt"


def save_model(name: str, model: Any, **kept: Unpack[Kept]) -> StoredModel:
    """Save a scripted or traced module, which runs no Python code, under a new version of `name`.

    A module of PyTorch Lightning is scripted first.
    See `headrace.frameworks.framework.Kept` for what else is kept.

    Raises:
        TypeError: it is not a ScriptModule, as `torch.jit.script` and `torch.jit.trace` return.
        InvalidInput: a signature names a method that it does not have.
    """
    torch = FRAMEWORK.require("torch")
    if hasattr(model, "to_torchscript"):
        model = model.to_torchscript()
    if not isinstance(model, torch.jit.ScriptModule):
        raise FRAMEWORK.refuse(model, "a ScriptModule of torch.jit.script or torch.jit.trace")
    with FRAMEWORK.saving(name, model, kept) as stored:
        torch.jit.save(model, stored.path_of(FILE))
    return stored


def load_model(tag: Any, device_id: str = "cpu") -> Any:
    """The module of a tag such as `mnist:latest`, or of a stored model, on a device.

    Raises:
        NotFound: there is no such model, or another module saved it.
        InvalidModel: its files are not as they were stored.
    """
    stored = FRAMEWORK.checked(tag)
    return FRAMEWORK.require("torch").jit.load(_file(stored), map_location=device_id)


def get(tag: Any) -> StoredModel:
    """The stored model of a tag.

    Raises:
        NotFound: no such model is stored, or another module saved it.
    """
    return FRAMEWORK.get(tag)


def settings_of(stored: StoredModel) -> dict[str, Any]:
    """The fields of `ModelSettings` by which a worker serves it."""
    return FRAMEWORK.settings(stored, _file(stored))


def _file(stored: StoredModel) -> str:
    return FRAMEWORK.file(stored, FILE, "saved_model.pt")
