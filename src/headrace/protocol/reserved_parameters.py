"""The names of parameters that the server itself reads, whatever protocol they come by."""

from __future__ import annotations

# Of a request or an answer: which Python value the tensors stand for, and headers to send back.
RESERVED = ("content_type", "headers")
# Of the binary tensor data extension: how tensors are sent, which no model sees.
TRANSPORT = ("binary_data_size", "binary_data", "binary_data_output")
# Of a runner's request: along which dimensions of its arrays, and of the answer's, the rows are.
# The tensors have theirs first, so that they can be merged; a worker moves them back.
BATCH_DIM = "batch_dim"
