"""Loaded models without a worker around them: what they are asked, and how they fail."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace import runtimes
from headrace.errors import (
    HeadraceError,
    InvalidInput,
    InvalidModel,
    LoadFailed,
    ModelFailed,
    ModelNotReady,
    Unimplemented,
    WorkerCrashed,
)
from headrace.model import Model
from headrace.protocol.messages import InferenceRequest, InferenceResponse
from headrace.protocol.mlflow import scoring
from headrace.protocol.tensor import Tensor
from headrace.runtimes import artefact
from headrace.settings import ModelSettings
from headrace.worker.host import ModelHost

Host = Callable[[type[Model]], ModelHost]


class Echo(Model):
    """Answers with what it was asked."""

    def infer(self, request: InferenceRequest) -> Any:
        return InferenceResponse(request.inputs, request.parameters)


@pytest.fixture
def host_of(monkeypatch: pytest.MonkeyPatch) -> Host:
    """A host that has loaded one model, `m`; what is loaded needs no import path."""

    def load(model: type[Model]) -> ModelHost:
        monkeypatch.setattr(runtimes, "create", model)
        host = ModelHost()
        host.load("m", settings())
        return host

    return load


def settings() -> ModelSettings:
    return ModelSettings("wine", "fake:Fake")


def request(**more: Any) -> InferenceRequest:
    return InferenceRequest([Tensor("x", "FP64", [1], bytes(8))], **more)


def number(value: int) -> InferenceResponse:
    return InferenceResponse([], {"number": value})


def numbers(pieces: Iterator[InferenceResponse]) -> list[int]:
    return [(piece.parameters or {})["number"] for piece in pieces]


def test_a_load_tells_whether_the_model_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    class Streams(Echo):
        def predict_stream(self, x: int) -> Iterator[int]:
            yield x

    told = []
    for model in (Echo, Streams):
        monkeypatch.setattr(runtimes, "create", model)
        told.append(ModelHost().load("m", settings()).streams)

    assert told == [False, True]


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (ValueError("no column 'a'"), LoadFailed, "raised ValueError while loading"),
        (SystemExit(3), LoadFailed, "raised SystemExit"),
        (NameError("name 'x' is not defined"), InvalidModel, "raised NameError"),
        (ImportError("no 'x' in 'numpy'"), InvalidModel, "raised ImportError"),
        (SyntaxError("'(' was never closed"), InvalidModel, "raised SyntaxError"),
        (ModuleNotFoundError("x", name="torch"), InvalidModel, "'torch'"),
        (InvalidModel("the file is empty"), InvalidModel, "^the file is empty$"),
    ],
    ids=["raises", "exits", "knows no name", "finds no name in a module",
         "is no Python", "lacks a module", "says it itself"],
)  # fmt: skip
def test_a_model_that_does_not_load_says_why(
    error: BaseException, kind: type[LoadFailed], reason: str, host_of: Host
) -> None:
    class Broken(Echo):
        def load(self) -> None:
            raise error

    with pytest.raises(LoadFailed, match=reason) as caught:
        host_of(Broken)

    assert type(caught.value) is kind


def test_the_text_of_a_failed_load_is_for_the_log_only(
    host_of: Host, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Echo):
        def load(self) -> None:
            raise ConnectionError("cannot reach db.internal")

    with pytest.raises(LoadFailed) as caught:
        host_of(Broken)

    assert caught.value.message == (
        "model 'wine' raised ConnectionError while loading; the server's log has the details"
    )
    assert "cannot reach db.internal" in caplog.text


def test_a_load_that_returns_false_has_failed(host_of: Host) -> None:
    class Unsure(Echo):
        async def load(self) -> bool:
            return False

    with pytest.raises(LoadFailed, match="wine.*False"):
        host_of(Unsure)


def test_a_failed_load_leaves_no_model_and_no_event_loop_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loops = []

    class Broken(Echo):
        async def load(self) -> None:
            loops.append(asyncio.get_running_loop())
            raise ValueError("no")

    monkeypatch.setattr(runtimes, "create", Broken)
    host = ModelHost()
    with pytest.raises(LoadFailed):
        host.load("m", settings())
    with pytest.raises(ModelNotReady):
        host.infer("m", request())

    assert loops[0].is_closed()


def test_a_request_reaches_its_model_as_it_came(host_of: Host) -> None:
    asked = request(parameters={"p": 1})

    answer = host_of(Echo).infer("m", asked)

    assert (answer.outputs, answer.parameters) == (asked.inputs, {"p": 1})


def test_all_coroutines_of_a_model_run_on_one_event_loop(host_of: Host) -> None:
    loops = []

    class Later(Model):
        async def load(self) -> None:
            loops.append(asyncio.get_running_loop())

        async def infer(self, request: InferenceRequest) -> InferenceResponse:
            loops.append(asyncio.get_running_loop())
            return number(1)

        async def unload(self) -> None:
            loops.append(asyncio.get_running_loop())

    host = host_of(Later)
    host.infer("m", request())
    host.unload("m")

    assert len(loops) == 3
    assert len(set(loops)) == 1
    assert loops[0].is_closed()


@pytest.mark.parametrize(
    "error",
    [ValueError("secret"), SystemExit("secret"), WorkerCrashed("secret")],
    ids=["an exception", "an exit", "what only the server can know"],
)
def test_a_model_that_raises_has_failed_and_the_log_says_how(
    error: BaseException, host_of: Host, caplog: pytest.LogCaptureFixture
) -> None:
    class Raises(Model):
        def infer(self, request: InferenceRequest) -> Any:
            raise error

    with pytest.raises(ModelFailed, match="wine") as caught:
        host_of(Raises).infer("m", request())

    assert "secret" not in str(caught.value)
    assert "secret" in caplog.text


def test_what_a_runtime_says_of_an_input_is_the_answer(host_of: Host) -> None:
    class Picky(Model):
        def infer(self, request: InferenceRequest) -> Any:
            raise InvalidInput("x: expected FP32")

    with pytest.raises(InvalidInput, match="^x: expected FP32$"):
        host_of(Picky).infer("m", request())


def test_a_body_of_mlflow_becomes_tensors_for_models_that_do_not_read_it(host_of: Host) -> None:
    asked = scoring.decode(b'{"inputs": {"a": [1.5]}}', "application/json", None).request

    answer = host_of(Echo).infer("m", asked)

    assert [(each.name, each.datatype) for each in answer.outputs] == [("a", "FP64")]


def test_a_model_that_reads_bodies_of_mlflow_gets_them_whole(host_of: Host) -> None:
    class Reads(Echo):
        decodes_scoring = True

    asked = scoring.decode(b'{"inputs": {"a": [1.5]}}', "application/json", None).request

    assert host_of(Reads).infer("m", asked).outputs is asked.inputs


def test_an_unloaded_model_is_asked_nothing_more(host_of: Host) -> None:
    unloaded = []

    class Held(Echo):
        def unload(self) -> None:
            unloaded.append(self)

    host = host_of(Held)
    host.unload("m")
    host.unload("m")

    assert len(unloaded) == 1
    with pytest.raises(ModelNotReady):
        host.infer("m", request())
    with pytest.raises(ModelNotReady):
        next(host.stream("m", request()))


def test_a_model_that_fails_to_unload_is_gone_and_so_is_its_event_loop(host_of: Host) -> None:
    loops = []

    class Stuck(Echo):
        async def unload(self) -> None:
            loops.append(asyncio.get_running_loop())
            raise OSError("no")

    host = host_of(Stuck)
    with pytest.raises(ModelFailed, match="raised OSError while unloading"):
        host.unload("m")

    assert loops[0].is_closed()
    with pytest.raises(ModelNotReady):
        host.infer("m", request())


@pytest.mark.parametrize("error", [asyncio.CancelledError, SystemExit, KeyboardInterrupt])
def test_nothing_that_a_model_raises_while_unloading_ends_its_thread(
    error: type[BaseException], host_of: Host
) -> None:
    class Quits(Echo):
        def unload(self) -> None:
            raise error

    with pytest.raises(ModelFailed, match=error.__name__):
        host_of(Quits).unload("m")


class Counts(Model):
    """Streams numbers; `closed` tells that it was let end."""

    closed = False

    def infer_stream(self, request: InferenceRequest) -> Iterator[InferenceResponse]:
        try:
            yield number(1)
            yield number(2)
        finally:
            type(self).closed = True


class CountsLater(Model):
    """The same, as an asynchronous generator."""

    closed = False

    async def infer_stream(self, request: InferenceRequest) -> AsyncIterator[InferenceResponse]:
        try:
            yield number(1)
            await asyncio.sleep(0)
            yield number(2)
        finally:
            await asyncio.sleep(0)
            type(self).closed = True


@pytest.mark.parametrize("model", [Counts, CountsLater])
def test_pieces_come_in_order_and_end(model: Any, host_of: Host) -> None:
    assert numbers(host_of(model).stream("m", request())) == [1, 2]


@pytest.mark.parametrize("model", [Counts, CountsLater])
def test_a_stream_that_is_left_lets_the_model_clean_up(model: Any, host_of: Host) -> None:
    model.closed = False
    pieces = host_of(model).stream("m", request())
    next(pieces)
    assert not model.closed
    pieces.close()

    assert model.closed


def test_a_stream_that_fails_says_so_after_the_pieces_before_it(host_of: Host) -> None:
    class Breaks(Model):
        def infer_stream(self, request: InferenceRequest) -> Iterator[InferenceResponse]:
            yield number(1)
            raise ValueError("secret")

    pieces = host_of(Breaks).stream("m", request())
    next(pieces)
    with pytest.raises(ModelFailed) as caught:
        next(pieces)

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("error", [Unimplemented("not streamed"), InvalidInput("x: expected FP32")])
def test_a_refusal_of_a_stream_is_the_answer(error: HeadraceError, host_of: Host) -> None:
    class Refuses(Model):
        def infer_stream(self, request: InferenceRequest) -> Any:
            raise error

    with pytest.raises(type(error), match=error.message):
        next(host_of(Refuses).stream("m", request()))


def test_a_model_cannot_say_that_its_worker_died(host_of: Host) -> None:
    class Lies(Echo):
        def infer(self, request: InferenceRequest) -> InferenceResponse:
            raise WorkerCrashed("no")

        def infer_stream(self, request: InferenceRequest) -> Any:
            raise WorkerCrashed("no")

    host = host_of(Lies)
    with pytest.raises(ModelFailed):
        host.infer("m", request())
    with pytest.raises(ModelFailed):
        next(host.stream("m", request()))


def test_a_stream_and_a_request_may_run_beside_each_other(host_of: Host) -> None:
    class Both(Counts, Echo):
        pass

    host = host_of(Both)
    pieces = host.stream("m", request())
    next(pieces)

    assert host.infer("m", request(parameters={"p": 1})).parameters == {"p": 1}
    assert numbers(pieces) == [2]


def of_load(
    fails: Callable[[], Any], times: int, level: int, monkeypatch: Any, caplog: Any
) -> list[str | None]:
    """The stack traces that are logged while a model is loaded several times."""

    class Fails(Model):
        def load(self) -> None:
            fails()

    monkeypatch.setattr(runtimes, "create", Fails)
    caplog.set_level(level, logger="headrace.worker")
    host = ModelHost()
    for _ in range(times):
        with pytest.raises(LoadFailed):
            host.load("m", settings())
    return [line.exc_text for line in caplog.records if line.exc_info]


def test_what_the_model_raises_while_loading_is_logged_with_its_trace_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    traces = of_load(lambda: [][1], 3, logging.INFO, monkeypatch, caplog)

    assert len(traces) == 1
    assert "IndexError" in str(traces[0])


def test_a_model_whose_file_is_missing_is_no_stack_trace_except_with_debug(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    missing = ModelSettings("wine", "mlflow", str(tmp_path / "gone"))
    host = ModelHost()
    caplog.set_level(logging.INFO, logger="headrace.worker")
    with pytest.raises(InvalidModel, match="its folder does not exist"):
        host.load("m", missing)
    assert not [line for line in caplog.records if line.exc_info]

    caplog.set_level(logging.DEBUG, logger="headrace.worker")
    with pytest.raises(InvalidModel):
        host.load("m", missing)
    assert len([line for line in caplog.records if line.exc_info]) == 1


def test_a_file_that_a_framework_does_not_find_is_named_and_not_tried_again(tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match="it could not be read: 'model.pkl': no such file"):
        artefact.read("it", (tmp_path / "model.pkl").read_bytes)
