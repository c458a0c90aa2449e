"""What a service may be made of is checked where it is defined."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from headrace import Runner, Service
from headrace.errors import InvalidModel
from headrace.io import JSON, Multipart, NumpyNdarray, Text
from headrace.models import Signature, Tag


def stored(name: str, **signatures: Signature) -> SimpleNamespace:
    signatures = signatures or {"predict": Signature()}
    return SimpleNamespace(tag=Tag(name, "v1"), info=SimpleNamespace(signatures=signatures))


def test_a_name_is_lowered():
    assert Service("Iris_Classifier").name == "iris_classifier"


@pytest.mark.parametrize("name", ["", "a b", "-a", "a-", "../a", "a" * 64, "é"])
def test_a_name_that_cannot_be_one_is_refused(name):
    with pytest.raises(InvalidModel, match="is not a name"):
        Service(name)


def test_two_runners_of_one_name_are_refused():
    with pytest.raises(InvalidModel, match=r"found duplicate name 'a'.*to_runner\(name=\.\.\.\)"):
        Service("s", runners=[Runner(stored("a")), Runner(stored("a"))])


def test_a_runner_may_have_the_name_of_its_service():
    assert Service("s", runners=[Runner(stored("s"))]).runners[0].name == "s"


def test_what_is_not_a_runner_is_refused():
    with pytest.raises(InvalidModel, match="must be runners, such as those of to_runner"):
        Service("s", runners=[stored("a")])


@pytest.mark.parametrize("key", ["runners", "models"])
@pytest.mark.parametrize("one", [Runner(stored("a")), "a:v1"])
def test_one_runner_or_model_in_place_of_a_list_is_refused_with_what_to_write(key, one):
    with pytest.raises(InvalidModel, match=rf"{key} must be a list, got \w+; write {key}=\["):
        Service("s", **{key: one})


@pytest.mark.parametrize(
    "name", ["index", "swagger", "docs", "metrics", "healthz", "livez", "readyz"]
)
def test_reserved_names_are_refused(name):
    with pytest.raises(InvalidModel, match="reserved"):
        Service("s").api(lambda x: x, input=Text(), output=Text(), name=name)


@pytest.mark.parametrize("name", ["a-b", "1a", "a b", ""])
def test_a_name_of_an_endpoint_is_an_identifier(name):
    with pytest.raises(InvalidModel, match="identifier"):
        Service("s").api(lambda x: x, input=Text(), output=Text(), name=name)


@pytest.mark.parametrize("route", ["//a", "a?b", "a#b", ":a", "/:a", "{a}", "a b"])
def test_a_route_is_a_plain_path(route):
    with pytest.raises(InvalidModel, match="must be a path"):
        Service("s").api(lambda x: x, input=Text(), output=Text(), name="a", route=route)


@pytest.mark.parametrize(
    "route", ["/v2", "/v2/models/a/infer", "invocations", "/ping/", "/v1/models/a:predict"]
)
def test_a_route_of_the_server_is_refused(route):
    svc = Service("s")

    with pytest.raises(InvalidModel, match="the server answers"):
        svc.api(lambda x: x, input=Text(), output=Text(), name="a", route=route)


def test_two_endpoints_of_one_name_or_route_are_refused():
    svc = Service("s")
    svc.api(lambda x: x, input=Text(), output=Text(), name="a", route="/r")

    with pytest.raises(InvalidModel, match="two endpoints named 'a'"):
        svc.api(lambda x: x, input=Text(), output=Text(), name="a")
    with pytest.raises(InvalidModel, match="'a' and 'b' of service 's' are both at /r"):
        svc.api(lambda x: x, input=Text(), output=Text(), name="b", route="r/")


@pytest.mark.parametrize(
    ("function", "input", "words"),
    [
        (lambda: 1, Text(), "takes no argument"),
        (lambda x, y: 1, Text(), "takes 2 arguments"),
        (lambda x: 1, None, "has no input"),
        (lambda x: 1, "text", r"input must be a descriptor such as JSON\(\), got str"),
        (lambda a: 1, Multipart(a=Text(), b=Text()), "the part 'b', which the function does not"),
        (lambda a, b, c: 1, Multipart(a=Text(), b=Text()), "takes 'c', which is no part"),
    ],
)
def test_a_function_that_does_not_fit_its_input_is_refused(function, input, words):
    with pytest.raises(InvalidModel, match=words):
        Service("s").api(function, input=input, output=Text(), name="a")


@pytest.mark.parametrize(
    "function", [lambda **parts: 1, lambda a, b=1, c=2: 1, lambda b, ctx, a: 1]
)
def test_a_function_may_take_the_parts_of_a_form_in_any_way(function):
    svc = Service("s", runners=None, models=None)

    svc.api(function, input=Multipart(a=Text(), b=Text()), output=Text(), name="a")


def test_hooks_of_the_deployment_come_before_those_of_the_start():
    svc = Service("s")

    @svc.on_startup
    def second():
        pass

    @svc.on_deployment
    def zeroth():
        pass

    @svc.on_deployment
    def first():
        pass

    assert svc.startup_hooks == [zeroth, first, second]


def test_what_is_not_a_stored_model_is_refused():
    with pytest.raises(InvalidModel, match="such as those of headrace.models.get"):
        Service("s", models=["iris:latest"])


def test_an_input_without_an_output_is_refused():
    with pytest.raises(InvalidModel, match="no output"):
        Service("s").api(lambda x: x, input=Text(), name="a")


def test_a_generator_is_refused():
    def pieces(x):
        yield x

    with pytest.raises(InvalidModel, match="generator"):
        Service("s").api(input=Text(), output=Text())(pieces)


def test_a_typed_endpoint_needs_its_types():
    with pytest.raises(InvalidModel, match="parameter 'x' has no annotation"):

        @Service("s").api
        def f(x) -> int: ...


def test_a_function_stays_what_it_was():
    svc = Service("s")

    @svc.api(input=NumpyNdarray(), output=JSON())
    def total(x: np.ndarray) -> float:
        """Adds them.

        All of them.
        """
        return float(x.sum())

    assert total(np.ones(2)) == 2.0
    route = svc.apis["total"].declared()
    assert (route.path, route.method, route.summary) == ("/total", "POST", "Adds them.")
    assert route.operation["description"] == "All of them."


def test_parts_of_a_form_are_arguments_by_name():
    svc = Service("s")

    @svc.api(input=Multipart(a=JSON(), b=Text()), output=JSON())
    def both(b, a, ctx): ...

    endpoint = svc.apis["both"]
    assert endpoint.called_with({"a": 1, "b": "x"}, "the context") == (
        (),
        {"a": 1, "b": "x", "ctx": "the context"},
    )
