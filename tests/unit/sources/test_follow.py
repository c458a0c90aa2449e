"""What is followed, and which version the registry's words mean."""

from __future__ import annotations

import pytest

from headrace.errors import ConfigurationError
from headrace.settings import ModelSettings
from headrace.sources.follow import Followed, followed, marked, seconds
from headrace.sources.model_keys import HINTS
from headrace.sources.model_registry import Registered
from headrace.sources.settings_file import converted

WINE = Registered(aliases={"champion": "7"}, stages={"Production": "5", "None": "9"}, latest="9")


def model(uri, **follow):
    return ModelSettings("wine", "mlflow", uri=uri, follow=follow)


@pytest.mark.parametrize(
    ("selector", "version"),
    [("@champion", "7"), ("@nobody", None), ("latest", "9"), ("Production", "5"),
     ("production", "5"), ("Staging", None), ("3", "3")],
)  # fmt: skip
def test_a_selector_means_a_version(selector, version):
    assert WINE.version(selector) == version


@pytest.mark.parametrize(
    ("uri", "follow", "selector"),
    [("models:/wine@champion", {}, "@champion"), ("models:/wine/latest", {}, "latest"),
     ("models:/wine", {"stable": "@champion"}, "@champion"),
     ("models:/wine@a", {"stable": "@b"}, "@b")],
)  # fmt: skip
def test_the_uri_decides_unless_stable_does(uri, follow, selector):
    found = Followed(model(uri, **follow))
    assert (found.registered, found.stable) == ("wine", selector)


@pytest.mark.parametrize(
    "uri",
    ["models:/wine/7", "models:/wine", "runs:/1/model", "/a/folder", "models:/a/b@champion"],
)
def test_what_does_not_move_cannot_be_followed(uri):
    with pytest.raises(ConfigurationError, match="cannot be followed"):
        Followed(model(uri))


def test_a_pinned_version_is_fetched_by_its_number():
    settings = Followed(model("models:/wine@champion")).pinned("7")
    assert (settings.uri, settings.version) == ("models:/wine/7", "7")


def test_follow_is_refused_where_no_model_moves():
    with pytest.raises(ConfigurationError, match="--follow"):
        followed([ModelSettings("wine", "mlflow", uri="models:/wine/7")])


def test_a_server_that_follows_takes_other_models_too_and_may_begin_with_none():
    local = ModelSettings("local", "sklearn", uri="/models/local")

    assert followed([]) == marked([]) == []
    assert marked([local]) == [local]


CANARY = {"alias": "@challenger", "percent": 10}


@pytest.mark.parametrize(
    ("follow", "told"),
    [
        ({"canary": {"alias": "@c"}}, "canary: percent is missing"),
        ({"canary": {"alias": "7", "percent": 1}}, "canary.alias: expected what moves"),
        ({"canary": {**CANARY, "steps": [20, 30]}}, "canary.steps: expected 10"),
        ({"canary": {**CANARY, "steps": [10, 10]}}, "canary.steps: expected each above"),
        ({"canary": {**CANARY, "steps": [10, 20]}}, "canary.bake is missing"),
        ({"canary": {**CANARY, "bake": "2 weeks"}}, "canary.bake: expected seconds or such as"),
        ({"canary": {**CANARY, "bake": 1e12}}, "canary.bake: expected at most 1000d"),
        ({"canary": {**CANARY, "bake": f"{'9' * 400}d"}}, "canary.bake: expected at most 1000d"),
        ({"canary": {**CANARY, "bake": "0m"}}, "canary.bake: expected more than 0 s"),
        ({"canary": {"alias": "challenger", "percent": 1}}, "canary.alias: expected what moves"),
        ({"canary": {"alias": "@a/b", "percent": 1}}, "canary.alias: expected what moves"),
        ({"canary": {"alias": "@champion", "percent": 1}}, "canary.alias: '@champion' decides the"),
        ({"shadow": {"alias": "@champion"}}, "shadow.alias: '@champion' decides the stable"),
        ({"canary": {**CANARY, "sticky": {"field": "a..b"}}}, "canary.sticky.field: expected up"),
        ({"canary": {**CANARY, "sticky": {"field": "a." * 99 + "a"}}}, "canary.sticky.field: exp"),
        ({"canary": {**CANARY, "sticky": {}}}, "canary.sticky: expected either header or field"),
        ({"canary": {**CANARY, "sticky": {"header": "a b"}}}, "canary.sticky.header: 'a b' is no"),
        ({"rollback": {"disagreement": 0.1}}, "rollback.disagreement: there is no shadow"),
    ],
)
def test_keys_that_do_not_fit_each_other_are_named(follow, told):
    with pytest.raises(ConfigurationError, match=f"'wine': follow.{told}"):
        Followed(model("models:/wine@champion", **follow))


@pytest.mark.parametrize(
    ("follow", "told"),
    [
        ({"canary": {"percent": 1}}, "canary.alias: is missing"),
        (
            {"canary": {**CANARY, "percent": 150}},
            "canary.percent: expected number, above 0, at mos",
        ),
        ({"canary": {**CANARY, "alais": 1}}, "canary: there is no key 'alais'; did you mean"),
        ({"canary": {**CANARY, "sticky": {"x": 1}}}, "canary.sticky: there is no key 'x'"),
        ({"rollback": {"min_requests": 0}}, "rollback.min_requests: expected integer, at least 1"),
        ({"shadow": {"alias": "@n", "sample": 2}}, "shadow.sample: expected number, above 0"),
    ],
)
def test_a_key_that_is_wrong_is_named(follow, told):
    with pytest.raises(ConfigurationError, match=f"file: follow.{told}"):
        converted(follow, HINTS["follow"], "file: follow")


@pytest.mark.parametrize(
    ("duration", "expected"),
    [(90, 90), ("90", 90), ("90s", 90), ("1.5m", 90), ("2 h", 7200), ("1d", 86400)],
)
def test_durations_have_units(duration, expected):
    assert seconds(duration) == expected


def test_the_steps_begin_with_the_percentage_and_default_to_it():
    one = Followed(model("models:/wine@champion", canary=CANARY)).follow.canary
    some = {"alias": "@challenger", "steps": [10, 50, 100], "bake": "15m"}
    many = Followed(model("models:/wine@champion", canary=some)).follow.canary
    assert (one.shares, one.step_seconds) == ([10], None)
    assert (many.shares, many.step_seconds) == ([10, 50, 100], 900)
