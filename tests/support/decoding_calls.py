"""Functions for the process that decodes to run."""

from __future__ import annotations

import gc
import os
from typing import Any

import numpy as np

from headrace.errors import BY_KIND, InvalidInput
from headrace.protocol import large_buffers

SIZE = 1_000_000


def process_id() -> int:
    return os.getpid()


def same(value: Any) -> Any:
    return value


def refuse(kind: str) -> None:
    raise BY_KIND[kind]("x: expected a number")


def die(number: int) -> None:
    os.kill(os.getpid(), number)


def counted(count: int) -> memoryview:
    """Numbers in memory for large tensors."""
    numbers = large_buffers.empty(count, "u1")
    numbers[:] = np.arange(count, dtype="u1")
    return numbers.data.toreadonly()[1:]


def hang(path: str) -> None:
    """Wait for a named pipe to be opened for writing."""
    with open(path):
        pass


def variable(name: str) -> str | None:
    return os.environ.get(name)


def refuse_text(text: bytes) -> None:
    """Refuse bytes because of an error that holds them."""
    try:
        text.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput("no text") from error


def alive(size: int) -> int:
    """How many bytes objects of this size there are that an error still holds."""
    errors = [each for each in gc.get_objects() if isinstance(each, UnicodeDecodeError)]
    return sum(len(each.object) == size for each in errors)
