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
    for name in sorted(before.keys() - {tensor.name for tensor in new}):
        yield f"input '{name}' is gone"
    for tensor in new:
        known = before.get(tensor.name)
        if _is_required(tensor) and (known is None or not _is_required(known)):
            yield f"input '{tensor.name}' is {'new and ' if known is None else ''}required"
        if known is not None:
            yield from _changed("input", known, tensor, may_grow=True)


def _outputs(old: Sequence[TensorMetadata], new: Sequence[TensorMetadata]) -> Iterator[str]:
    after = {tensor.name: tensor for tensor in new}
    for tensor in old:
        if tensor.name not in after:
            yield f"output '{tensor.name}' is gone"
        else:
            yield from _changed("output", tensor, after[tensor.name])


def _is_required(tensor: TensorMetadata) -> bool:
    return bool(tensor.parameters.get("required", True))


def _changed(
    kind: str, old: TensorMetadata, new: TensorMetadata, may_grow: bool = False
) -> Iterator[str]:
    """How a tensor differs; with `may_grow`, a dimension may have become free."""
    if old.datatype != new.datatype:
        yield f"{kind} '{old.name}' was {old.datatype} and is {new.datatype}"
    fits = len(old.shape) == len(new.shape) and all(
        now == before or (may_grow and now == -1)
        for before, now in zip(old.shape, new.shape, strict=True)
    )
    if not fits:
        yield f"{kind} '{old.name}' had the shape {old.shape} and has {new.shape}"
