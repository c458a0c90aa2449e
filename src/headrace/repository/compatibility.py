"""Whether callers of one version of a model can be answered by another one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from headrace.protocol.messages import ModelMetadata, TensorMetadata


def differences(old: ModelMetadata, new: ModelMetadata) -> list[str]:
    """What a caller of `old` would notice in `new`, a phrase each; none if they are compatible.

    An input that is new must be optional, and one that is gone is passed over only by
    `/invocations`, so it counts too. Outputs may be added, and none may go.
    """
    return [*_inputs(old.inputs, new.inputs), *_outputs(old.outputs, new.outputs)]


def _inputs(old: Sequence[TensorMetadata], new: Sequence[TensorMetadata]) -> Iterator[str]:
    before = {tensor.name: tensor for tensor in old}
    after = {tensor.name: tensor for tensor in new}
    for name in before.keys() - after.keys():
        yield f"input '{name}' is gone"
    for name in after.keys() - before.keys():
        if not (after[name].parameters or {}).get("optional"):
            yield f"input '{name}' is new and required"
    for name in before.keys() & after.keys():
        yield from _changed("input", before[name], after[name])


def _outputs(old: Sequence[TensorMetadata], new: Sequence[TensorMetadata]) -> Iterator[str]:
    after = {tensor.name: tensor for tensor in new}
    for tensor in old:
        if tensor.name not in after:
            yield f"output '{tensor.name}' is gone"
        else:
            yield from _changed("output", tensor, after[tensor.name])


def _changed(kind: str, old: TensorMetadata, new: TensorMetadata) -> Iterator[str]:
    if old.datatype != new.datatype:
        yield f"{kind} '{old.name}' was {old.datatype} and is {new.datatype}"
    elif list(old.shape) != list(new.shape):
        yield f"{kind} '{old.name}' had the shape {list(old.shape)} and has {list(new.shape)}"
