"""The entries of a file as batches: v2 requests, or rows of a table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headrace.client import columns
from headrace.client.batch import Batch, key, merge
from headrace.client.client_errors import InvalidRequest
from headrace.client.input_files import InputFile
from headrace.client.inputs import tensors_of
from headrace.client.pieces import Masks, Piece, content_of, lines_of, pieces_of
from headrace.errors import ConfigurationError, HeadraceError, listing
from headrace.protocol.messages import InferenceRequest
from headrace.protocol.open_inference.rest_json import decode_request

# Delimiters that a file may have instead of its own.
DELIMITERS = {";": "';'", "\t": "tab", "|": "'|'", ",": "','"}


@dataclass(frozen=True)
class Selection:
    """Which columns of a table are sent, and which are carried into the output."""

    ignore_extra: bool = False
    keep: Sequence[str] = ()

    def sent(self, names: Iterable[str], inputs: columns.Metadata) -> list[str]:
        """The names of the columns to send."""
        known = {item["name"] for item in inputs}
        ignores = self.ignore_extra and columns.element_of(inputs) is None
        return [name for name in names if name in known or not (ignores or name in self.keep)]


def batches(
    file: InputFile, start: int, size: int, inputs: columns.Metadata, selection: Selection
) -> Iterator[Batch]:
    """The entries of a file from `start` on, at most `size` in a batch.

    An entry is a request in JSON lines and a row in everything else. `inputs` is the metadata of
    the model's inputs, which says what the columns hold.

    Raises:
        ConfigurationError: the file cannot be read.
    """
    kind = content_of(file)
    if kind == "lines":
        return _merged(_requests(file, start), size)
    return _rows(_skip(pieces_of(file, size, inputs), start), start, inputs, selection, kind)


def _requests(file: InputFile, start: int) -> Iterator[Batch]:
    for index, line in enumerate(lines_of(file)):
        if index >= start:
            yield _request(index, line)


def _request(index: int, line: bytes) -> Batch:
    try:
        request = decode_request(line).request
    except HeadraceError as error:
        return _fault(index, error.message, "preprocessing error")
    shape = request.inputs[0].shape
    return Batch(index, [shape[0] if shape else 1], request, [request.id])


def _fault(index: int, message: str, code: str | None = None) -> Batch:
    return Batch(index, [1], InferenceRequest([]), [""], InvalidRequest(message, code=code))


def _merged(entries: Iterator[Batch], size: int) -> Iterator[Batch]:
    waiting: list[Batch] = []
    for entry in entries:
        if waiting and (
            len(waiting) == size or key(entry) is None or key(entry) != key(waiting[0])
        ):
            yield merge(waiting)
            waiting = []
        waiting.append(entry)
    if waiting:
        yield merge(waiting)


def _rows(
    pieces: Iterator[Piece],
    start: int,
    inputs: columns.Metadata,
    selection: Selection,
    kind: str,
) -> Iterator[Batch]:
    from_text, are_digits = kind == "csv", kind in ("csv", "rows")
    for piece in pieces:
        frame = piece.frame
        wanted = set(selection.sent(map(str, frame.columns), inputs))
        chosen = columns.as_elements(
            frame.loc[:, [str(name) in wanted for name in frame.columns]],
            inputs,
            from_text=from_text,
        )
        found = columns.fitted(chosen, inputs, from_text=from_text, are_digits=are_digits)
        faults = {**found.faults, **piece.faults}
        left_out = {**piece.absent, **found.left_out}
        for first, last in _stretches(faults, left_out, len(frame)):
            if first in faults:
                yield _fault(start + first, faults[first])
            else:
                part = {
                    name: column[first:last]
                    for name, column in found.columns.items()
                    if name not in left_out or not left_out[name][first]
                }
                yield from _sent(start + first, last - first, part, inputs)
        start += len(frame)


def _sent(
    start: int, count: int, part: dict[str, Any], inputs: columns.Metadata
) -> Iterator[Batch]:
    """The rows as one batch; row by row if a cell among them cannot be sent."""
    try:
        tensors = columns.labelled(tensors_of(part), inputs)
    except InvalidRequest as error:
        if count == 1:
            yield _fault(start, error.message)
            return
        for at in range(count):
            one = {name: column[at : at + 1] for name, column in part.items()}
            yield from _sent(start + at, 1, one, inputs)
        return
    yield Batch(start, [1] * count, InferenceRequest(tensors), [""] * count)


def _stretches(faults: Iterable[int], left_out: Masks, count: int) -> Iterator[tuple[int, int]]:
    """The rows at fault one by one, and between them those that have the same columns."""
    edges = {0, count}
    for at in faults:
        edges |= {at, at + 1}
    for mask in left_out.values():
        edges.update((np.flatnonzero(mask[1:] != mask[:-1]) + 1).tolist())
    ordered = sorted(edges)
    return zip(ordered, ordered[1:], strict=False)


def _skip(pieces: Iterable[Piece], start: int) -> Iterator[Piece]:
    """The rows from `start` on."""
    for piece in pieces:
        count = len(piece.frame)
        if start < count:
            yield piece.after(start) if start else piece
        start = max(0, start - count)


def check(
    file: InputFile, names: Sequence[str], inputs: columns.Metadata, selection: Selection
) -> None:
    """Refuse a selection that cannot work with these columns of a file.

    Raises:
        ConfigurationError: a column to keep is not in the file, none would be sent, or the
            columns are separated otherwise.
    """
    known = [item["name"] for item in inputs]
    if file.kind == "csv" and len(names) == 1 and names[0] not in known:
        _check_delimiter(file, names[0], known)
    if selection.ignore_extra and not inputs:
        raise ConfigurationError(
            "--ignore-extra: the model's metadata does not say which inputs it takes"
        )
    for name in selection.keep:
        if name not in names:
            raise ConfigurationError(f"--keep: the file has no column '{name}'; it has "
                                     f"{listing(list(names))}")  # fmt: skip
    if names and not selection.sent(names, inputs):
        raise ConfigurationError(
            f"no column of the file would be sent: the model takes {listing(known)}, the file has "
            f"{listing(list(names))}"
        )


def _check_delimiter(file: InputFile, header: str, known: Sequence[str]) -> None:
    """Refuse a header that holds names of inputs, separated by something else."""
    for delimiter, shown in DELIMITERS.items():
        parts = {part.strip().strip('"') for part in header.split(delimiter)}
        if len(parts) > 1 and (parts & set(known) or not known):
            raise ConfigurationError(
                f"{file.path}: its columns seem to be separated by {shown}: add --delimiter {shown}"
            )
