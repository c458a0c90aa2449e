"""The names of parameters that the server itself reads, whatever protocol they come by."""

from __future__ import annotations

# Of a request or an answer: which Python value the tensors stand for, and headers to send back.
RESERVED = ("content_type", "headers")
# Of the binary tensor data extension: how tensors are sent, which no model sees.
TRANSPORT = ("binary_data_size", "binary_data", "binary_data_output")
