"""Lets tests and the code under test import Headrace's `mlserver`."""

from __future__ import annotations

from headrace.compat import alias

alias.offer()
import mlserver.codecs.numpy as of_numpy  # noqa: E402


def _encode_data(data, _datatype):
    return of_numpy.NumpyCodec.encode_output("", data).data.root


# Private helpers of MLServer that its Hugging Face runtime imports.
of_numpy._to_ndarray = of_numpy.NumpyCodec.decode_input
of_numpy._encode_data = _encode_data
