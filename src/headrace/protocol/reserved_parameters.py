"""The names of parameters that the server itself reads, whatever protocol they come by."""

from __future__ import annotations

# Of a request or an answer: which Python value the tensors stand for, and headers to send back.
RESERVED = ("content_type", "headers", "python_value")
# Of a runner's request: the form of its value (see `headrace.protocol.value_forms`), the arguments
# if there are several, and `whole` if its rows cannot be merged with those of others.
PYTHON_VALUE = "python_value"
# Of a tensor of JSON cells: the datatype of its column, see `headrace.protocol.nullable`.
NULLABLE = "nullable_datatype"
# Of an input or output in metadata, whose elements are JSON: their JSON Schema, as text.
JSON_SCHEMA = "json_schema"
# What no model sees of a client's request: how tensors are sent, by the binary tensor data
# extension, and what only runners and models may say.
TRANSPORT = ("binary_data_size", "binary_data", "binary_data_output", PYTHON_VALUE, NULLABLE)
# Of a runner's request: along which dimensions of its arrays, and of the answer's, the rows are.
# The tensors have theirs first, so that they can be merged; a worker moves them back.
BATCH_DIM = "batch_dim"
