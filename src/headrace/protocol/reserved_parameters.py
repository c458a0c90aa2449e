"""The names of parameters that mean something to the server, wherever they come from."""

from __future__ import annotations

# About a request or an answer: what Python value the tensors stand for, and headers of its answer.
RESERVED = ("content_type", "headers")
# Of the binary tensor data extension: how tensors travel, which no model sees.
TRANSPORT = ("binary_data_size", "binary_data", "binary_data_output")
