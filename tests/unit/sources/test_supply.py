"""What a source and the settings together say is served."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.errors import ConfigurationError
from headrace.settings import ServerSettings
from headrace.sources.discovery import open_source
from headrace.sources.supply import Supply, supply
from support.custom import write_model


def supplied(place: str, **switches: bool) -> Supply:
    """What these settings, given as flags, serve from a place."""
    origins = {name: f"--{name}" for name in ("follow", "watch", "reload")}
    return supply(open_source(place), ServerSettings(**switches), origins)  # type: ignore[arg-type]


def test_an_alias_is_followed_also_when_it_is_found_again() -> None:
    found = supplied("models:/wine@champion", follow=True)
    assert [model.follow for model in [*found.models, *found.find("wine")]] == [{}, {}]


def test_an_alias_is_not_followed_unless_that_is_asked_for() -> None:
    found = supplied("models:/wine@champion")
    assert [model.follow for model in [*found.models, *found.find("wine")]] == [None, None]


def test_a_folder_that_is_watched_is_looked_at(tmp_path: Path) -> None:
    write_model(tmp_path, name="first")
    look = supplied(str(tmp_path), watch=True).look
    write_model(tmp_path, name="second")
    assert look is not None
    assert {model.name for model in look()} == {"first", "second"}


@pytest.mark.parametrize(
    ("switch", "message"),
    [
        ("follow", "--follow is for models of a registry"),
        ("reload", "--reload is for services"),
        ("watch", "--watch is for folders"),
    ],
)
def test_a_setting_that_is_not_for_such_a_source_is_refused(switch: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        supplied("models:/wine/7", **{switch: True})
