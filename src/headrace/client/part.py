"""The unfinished output of a run: complete lines in order, and which run they belong to.

Starting the same run again resumes after the last complete line.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import orjson

from headrace.client.batch import Outcome
from headrace.client.reasons import Reasons
from headrace.client.result import InferResult
from headrace.errors import BadModelOutput, ConfigurationError
from headrace.protocol.messages import InferenceResponse
from headrace.protocol.open_inference.rest_json import encode_response

# How lines with results begin, unlike those with errors.
RESULT = b'{"model_name"'


class Done(NamedTuple):
    """How much of the input is answered: the next entry, how many so far failed, and why.

    `advice` says what may help if all of them failed.
    """

    entries: int = 0
    failed: int = 0
    reasons: Reasons | None = None
    advice: str = ""


class PartFile:
    """`OUTPUT.part`, and alongside it `OUTPUT.part.run`, which identifies the run.

    Raises:
        ConfigurationError: on entering, when the files are those of another run, or cannot be
            written.
    """

    def __init__(self, output: Path, run: Mapping[str, Any], whole: bool, reasons: Reasons) -> None:
        self.path = output.with_name(output.name + ".part")
        self._reasons = reasons
        self.done = Done(0, 0, self._reasons)
        self._run = dict(run)
        self._mark = output.with_name(output.name + ".part.run")
        self._output = output
        self._whole = whole

    def __enter__(self) -> PartFile:
        if self._output.is_dir():
            raise ConfigurationError(f"{self._output}: is a folder, expected a file")
        try:
            if self._resumes():
                self._recover()
            else:
                self.path.write_bytes(b"")
                self._mark.write_bytes(orjson.dumps(self._run))
            self._file = self.path.open("ab")
        except OSError as error:
            raise ConfigurationError(f"{error.filename}: {error.strerror}") from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        # A file that cannot be scored has nothing to continue.
        if isinstance(error, ConfigurationError) and not self.done.entries:
            self.path.unlink(missing_ok=True)
            self._mark.unlink(missing_ok=True)

    def add(self, outcome: Outcome) -> None:
        """Write the outcome of the next entries; for JSON lines, one line for each."""
        entries = len(outcome.batch.rows)
        self._file.write(b"".join(self._lines(outcome)))
        self._file.flush()
        self.done = Done(self.done.entries + entries, self._reasons.total, self._reasons)

    def publish(self) -> None:
        """Make the finished lines the output itself, atomically."""
        self._file.close()
        os.replace(self.path, self._output)
        self._mark.unlink()

    def remove(self) -> None:
        """Remove the lines, which are in the output in another form."""
        self._file.close()
        self.path.unlink()
        self._mark.unlink()

    def _lines(self, outcome: Outcome) -> list[bytes]:
        """Lines of an outcome; their failures are counted."""
        batch = outcome.batch
        entries = len(batch.rows)
        if self._whole:
            return [self._line(outcome, batch.start, entries, {"rows": entries})]
        results = batch.divide(outcome.result) if outcome.result is not None else [None] * entries
        return [
            self._line(Outcome(batch, result, outcome.error), batch.start + position, 1, {})
            for position, result in enumerate(results)
        ]

    def _line(self, outcome: Outcome, first: int, entries: int, more: dict[str, int]) -> bytes:
        """The line of one entry, or of a whole batch."""
        place = {"batch_index": first, **more}
        error = outcome.error
        if outcome.result is not None:
            try:
                return _result_line(outcome.result, place)
            except BadModelOutput as refused:
                fault = {"status": refused.kind, "msg": refused.message}
        else:
            assert error is not None
            fault = {"status": error.code, "msg": error.message}
        self._reasons.add(fault["msg"], first, entries)
        return orjson.dumps({"parameters": place, "error": fault}) + b"\n"

    def _resumes(self) -> bool:
        """Whether this run has finished lines; if no run has, any may start.

        Raises:
            ConfigurationError: the lines belong to another run.
        """
        if not self._mark.exists() or not self.path.exists() or not self.path.stat().st_size:
            return False
        if self._mark.read_bytes() != orjson.dumps(self._run):
            raise ConfigurationError(
                f"{self.path} belongs to another run: its input, model or options differ; remove "
                "it to start over"
            )
        return True

    def _recover(self) -> None:
        """Count the complete lines and cut off what follows them."""
        entries = end = 0
        with self.path.open("r+b") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                end += len(line)
                count = orjson.loads(line)["parameters"]["rows"] if self._whole else 1
                if not line.startswith(RESULT):
                    self._reasons.add(orjson.loads(line)["error"]["msg"], entries, count)
                entries += count
            file.truncate(end)
        self.done = Done(entries, self._reasons.total, self._reasons)


def _result_line(result: InferResult, place: dict[str, int]) -> bytes:
    parameters = {**result.parameters, "inference_id": result.id, **place}
    line, _ = encode_response(
        InferenceResponse(result.tensors, parameters),
        model_name=result.model_name,
        model_version=result.model_version,
        id=result.id,
    )
    return line + b"\n"
