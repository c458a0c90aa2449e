"""PyTorch modules in the model store."""

from __future__ import annotations

from typing import Any, Unpack

from headrace.frameworks import pickling
from headrace.frameworks.framework import Framework, Kept
from headrace.models import StoredModel

FRAMEWORK = Framework("pytorch", "pytorch", ("torch",), method="__call__", answers="torch")
MODULE = "model.pt"
PROGRAM = "model.pt2"


def save_model(name: str, model: Any, **kept: Unpack[Kept]) -> StoredModel:
    """Save a whole `nn.Module`, or a program of `torch.export`, under a new version of `name`.

    A module is pickled with the code of classes from a notebook or script, so loading it runs
    code; an exported program or `headrace.torchscript` does not.
    See `headrace.frameworks.framework.Kept` for what else is kept.

    Raises:
        TypeError: it is neither, or a TorchScript module.
        InvalidInput: a signature names a method that it does not have, or it cannot be pickled.
    """
    torch = FRAMEWORK.require("torch")
    exported = isinstance(model, torch.export.ExportedProgram)
    if isinstance(model, torch.jit.ScriptModule):
        raise FRAMEWORK.refuse(model, "an nn.Module; headrace.torchscript saves ScriptModules")
    if not exported and not isinstance(model, torch.nn.Module):
        raise FRAMEWORK.refuse(model, "an nn.Module or a program of torch.export")
    pickle_module = None if exported else FRAMEWORK.require("cloudpickle")
    served = model.module() if exported else model
    with FRAMEWORK.saving(name, served, kept) as stored:
        if exported:
            torch.export.save(model, stored.path_of(PROGRAM))
        else:
            with pickling.written():
                torch.save(model, stored.path_of(MODULE), pickle_module=pickle_module)
    return stored


def load_model(tag: Any, device_id: str = "cpu") -> Any:
    """The module of a tag such as `mnist:latest`, or of a stored model, on a device.

    Raises:
        NotFound: there is no such model, or another module saved it.
        InvalidModel: its files are not as they were stored.
    """
    stored = FRAMEWORK.checked(tag)
    torch = FRAMEWORK.require("torch")
    path = _file(stored)
    if path.endswith(PROGRAM):
        return torch.export.load(path).module().to(device_id)
    return torch.load(path, map_location=device_id, weights_only=False)


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
    return FRAMEWORK.file(stored, MODULE, PROGRAM, "saved_model.pt")
