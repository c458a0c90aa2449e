"""The metadata of models in the form of Triton's model configuration.

Source: Triton's "Model configuration extension" of the Open Inference Protocol.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headrace.protocol.messages import TensorMetadata
from headrace.serving.served_model import ServedModel

# All others have the protocol's name after `TYPE_`.
ANOTHER_NAME = {"BYTES": "TYPE_STRING"}


def model_config(model: ServedModel) -> dict[str, Any]:
    """What clients read of a configuration, in JSON's form.

    `max_batch_size` is 0, so that `dims` has every dimension, unless requests are merged and each
    input and output has rows and something in them.
    """
    metadata = model.model_metadata
    tensors = [*metadata.inputs, *metadata.outputs]
    has_rows = all(len(each.shape) > 1 and each.shape[0] == -1 for each in tensors)
    size = model.batcher.max_batch_size if model.batcher and tensors and has_rows else 0
    size = size if size > 1 else 0
    return {
        "name": model.name,
        "platform": model.settings.platform or metadata.platform,
        "max_batch_size": size,
        "input": _tensors(metadata.inputs, size),
        "output": _tensors(metadata.outputs, size),
        "model_transaction_policy": {"decoupled": metadata.streams},
    }


def _tensors(tensors: Sequence[TensorMetadata], size: int) -> list[dict[str, Any]]:
    return [
        {
            "name": each.name,
            "data_type": ANOTHER_NAME.get(each.datatype, f"TYPE_{each.datatype}"),
            "dims": list(each.shape[1:] if size else each.shape),
        }
        for each in tensors
    ]
