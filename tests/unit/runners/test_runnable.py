"""Runnables, and runners of them, outside of a served process."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace

import numpy as np
import pytest

from headrace import Runnable, Runner
from headrace.errors import BadModelOutput, HeadraceError, InvalidInput, InvalidModel
from headrace.models import Tag
from headrace.runtimes.service.description import describe
from headrace.services.service import Service


class Base(Runnable):
    SUPPORTED_RESOURCES = ("cpu", "nvidia.com/gpu")
    SUPPORTS_CPU_MULTI_THREADING = True

    def __init__(self, factor=2):
        self.factor = factor

    @Runnable.method(batchable=True, batch_dim=0)
    def scaled(self, rows):
        return rows * self.factor

    @Runnable.method(batchable=True, batch_dim=(1, 0))
    def summed(self, columns):
        return columns.sum(axis=0)

    @Runnable.method
    def joined(self, *parts, between=" "):
        return between.join(parts)

    def hidden(self):
        return "not offered"


def local(cls=Base, **options):
    runner = Runner(cls, **options)
    runner.init_local(quiet=True)
    return runner


def test_marked_methods_are_called_on_one_object_of_the_class():
    runner = local(runnable_init_params={"factor": 3})

    assert list(runner.methods) == ["scaled", "summed", "joined"]
    assert runner.scaled.run(np.ones(2)).tolist() == [3, 3]
    assert runner.summed.run(np.ones((3, 2))).tolist() == [3, 3]
    assert asyncio.run(runner.joined.async_run("a", "b", between="-")) == "a-b"


def test_a_runner_is_named_after_its_class_in_lower_case(caplog):
    with caplog.at_level(logging.WARNING, "headrace.runners"):
        assert Runner(Base).name == "base"

    # Nobody wrote that name, so nobody has to be warned.
    assert caplog.text == ""
    assert Runner(Base, name="other").name == "other"


def test_a_method_can_be_added_to_a_class():
    class Own(Base):
        pass

    Own.add_method(lambda self, x: x + self.factor, "moved", batchable=True)

    assert local(Own).moved.run([1][0:1][0] * np.ones(1)).tolist() == [3]
    assert "moved" not in Runner(Base).methods


def test_a_method_that_is_overridden_without_the_mark_is_not_offered():
    class Own(Base):
        def scaled(self, rows):
            return rows

    assert list(Runner(Own).methods) == ["summed", "joined"]


def test_what_is_set_on_the_class_is_not_set_on_an_object():
    with pytest.raises(AttributeError, match="SUPPORTED_RESOURCES is set on the class"):
        Base().SUPPORTED_RESOURCES = ("cpu",)


def test_an_unknown_method_is_named_with_those_there_are():
    with pytest.raises(AttributeError, match="'hidden', only scaled, summed, joined"):
        Runner(Base).hidden  # noqa: B018


def test_a_runner_is_made_local_once():
    with pytest.raises(InvalidModel, match="'base' is local already"):
        local().init_local()


def test_a_runner_that_is_neither_served_nor_local_says_what_to_do():
    with pytest.raises(HeadraceError, match=r"init_local\(\)"):
        Runner(Base).scaled.run(1)


@pytest.mark.parametrize(
    ("rows", "answer", "words"),
    [
        (np.ones(3), np.ones(2), "given 3 and returned 2"),
        ([1, 2], [1], "given 2 and returned 1"),
        (np.ones(2), 5, "given 2 and returned no rows"),
        ({"a": np.ones(2)}, {"a": np.ones(1)}, "given 2 and returned 1"),
    ],
)
def test_a_batchable_method_returns_as_many_rows_as_it_is_given(rows, answer, words):
    class Wrong(Runnable):
        @Runnable.method(batchable=True)
        def ask(self, rows):
            return answer

    with pytest.raises(BadModelOutput, match=f"wrong.ask is batchable.*{words}"):
        local(Wrong).run(rows)


def test_arguments_that_do_not_fit_are_refused_by_the_name_of_the_method():
    with pytest.raises(InvalidInput, match=r"base\.scaled: missing a required argument: 'rows'"):
        local().scaled.run()


def test_a_constructor_that_is_not_given_what_it_takes_is_named():
    with pytest.raises(InvalidModel, match="runnable_init_params of 'Base'.*'weights'"):
        local(runnable_init_params={"weights": 1})


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Runner(Runnable), "'Runnable' has no method to call"),
        (lambda: Runner(dict), "made of a stored model or of a class derived from Runnable.*dict"),
        (lambda: Runner("iris:latest"), "made of a stored model .* got str"),
        (lambda: Runner(Base, models=["iris:latest"]), "models must be stored models, got str"),
        (lambda: Runner(Base, max_batch_size=1.5), "max_batch_size must be a number above 0"),
        (lambda: Runner(Base, max_latency_ms=0), "max_latency_ms must be a number above 0"),
        (lambda: Runner(Base, method_configs={"no": {}}), "there is no method 'no', only 'scaled'"),
        (
            lambda: Runner(Base, method_configs={"scaled": {"size": 1}}),
            "method_configs of 'scaled': there is no option 'size'",
        ),
        (lambda: Runnable.method(batch_dim=-1), "batch_dim: expected a dimension"),
        (lambda: Runnable.method(batch_dim=(0, 1, 2)), "batch_dim: expected a dimension"),
    ],
)
def test_a_wrong_definition_says_what_is_wrong(make, words):
    with pytest.raises(InvalidModel, match=words):
        make()


def test_a_batch_size_for_a_method_without_batches_is_warned_of(caplog):
    with caplog.at_level(logging.WARNING, "headrace.runners"):
        Runner(Base, method_configs={"joined": {"max_batch_size": 5}})

    assert "'joined' is not batchable, so max_batch_size has no effect" in caplog.text


def test_the_options_of_a_method_come_before_those_of_its_runner():
    configs = {"scaled": {"max_batch_size": 5}, "summed": {"max_latency_ms": 7}}
    runner = Runner(Base, max_batch_size=50, max_latency_ms=70, method_configs=configs)

    assert {name: tuple(each.limits) for name, each in runner.methods.items()} == {
        "scaled": (5, 70),
        "summed": (50, 7),
        "joined": (50, 70),
    }


def described(*runners):
    return describe(Service("s", runners=runners), "service", "svc", "/folder")["runners"]


def test_batches_of_a_served_runnable_are_those_of_its_methods():
    configs = {"scaled": {"max_batch_size": 5}}
    (found,) = described(Runner(Base, max_batch_size=50, method_configs=configs))

    assert (found["max_batch_size"], found["batch_sizes"]) == (50, {"scaled": 5, "": 5})
    # What clients send has its rows first, so it cannot be merged for `summed`.
    assert found["unbatched"] == ["summed", "joined"]
    assert found["inference_pool_gid"] == "runner base"


def test_the_models_of_runnables_are_listed_once_with_those_of_the_service():
    a, b = (SimpleNamespace(tag=Tag(name, "v1")) for name in "ab")
    runners = [Runner(Base, models=[a, b]), Runner(Base, name="second", models=[b])]

    assert describe(Service("s", runners=runners, models=[a]), "m", "", "/")["models"] == [
        "a:v1",
        "b:v1",
    ]
    assert runners[0].models == [a, b]
