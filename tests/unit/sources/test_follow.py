"""What is followed, and which version the registry's words mean."""

from __future__ import annotations

import pytest

from headrace.errors import ConfigurationError
from headrace.settings import ModelSettings
from headrace.sources.follow import Followed, followed, marked
from headrace.sources.model_registry import Registered

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


@pytest.mark.parametrize("uri", ["models:/wine/7", "models:/wine", "runs:/1/model", "/a/folder"])
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
