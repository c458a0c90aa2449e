"""docs/reference/settings.md: what it says is what the settings are, and what sets them."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import get_type_hints

import pytest

from headrace.cli import serve
from headrace.configuration import resolve
from headrace.protocol.open_inference.json_faults import described
from headrace.settings import CorsSettings, ServerSettings
from headrace.sources.model_file import read_model
from headrace.sources.model_keys import HINTS, Keys
from support.settings_page import PAGE, TABLE, rendered

# A value of each type, as it stands in a variable.
SAMPLES = {
    "integer": "1", "number": "1", "boolean": "true", "array": "[]", "object": "{}",
    "string": "/text",
}  # fmt: skip
# Of keys that do not take every value of their type.
OWN_SAMPLES = {"host": "text", "metrics_rest_server_prefix": "text"}
# The setting of a model that a key becomes, where they differ.
BECOMES = {"parallel_workers": "inline", "format": "extra"}
NO_QUANTITIES = ("_port", "_fd", "_uid")


def rows(table: str) -> Iterator[tuple[list[str], str]]:
    """The names in each row of a table of the page, and a value of the row's type."""
    found = next(found for found in TABLE.finditer(PAGE.read_text()) if found[2] == table)
    for line in found[0].splitlines():
        if line.startswith("| `"):
            names, kind = line.split(" | ")[:2]
            first = re.findall(r"\w+", kind)[0]
            found_names = re.findall("`([^`]+)`", names)
            # Other types are listed by their choices.
            sample = SAMPLES.get(first, first)
            yield found_names, OWN_SAMPLES.get(found_names[0], sample)


def in_json(value: str) -> str:
    """A value of a variable as it stands in a file: text has quotes, all else is the same."""
    return json.dumps(value) if value.strip("/").isalpha() and value != "true" else value


def test_the_page_is_as_the_settings_are() -> None:
    text = PAGE.read_text()

    assert text == rendered(text), "docs/reference/settings.md is out of date: run `make docs`"


def test_each_name_in_a_row_sets_the_setting_of_the_server(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    serve.add_arguments(parser)
    seen = set()

    for (key, *others), value in rows("server"):
        for name in others:
            if name.startswith("--"):
                words = [name] if value == "true" else [name, value]
                given = {key: vars(parser.parse_args(words))[key]}
                assert resolve(given, {}, None).origins[key] == name
            else:
                assert resolve({}, {name: value}, None).origins[key] == name
        (tmp_path / "settings.json").write_text(f'{{"{key}": {in_json(value)}}}')
        assert resolve({}, {}, tmp_path).origins[key].endswith(f"settings.json: {key}")
        seen.add(key)

    assert seen == {field.name for field in fields(ServerSettings)}


def test_each_name_in_a_row_sets_the_setting_of_a_model(tmp_path: Path) -> None:
    file = tmp_path / "model-settings.json"
    runtime = {"HEADRACE_MODEL_IMPLEMENTATION": "sklearn"}
    seen = set()

    for (place, ours, theirs), value in rows("model"):
        key = place.removeprefix("parameters.")
        # A name has no slash.
        value = value.removeprefix("/")
        member = f'"{key}": {in_json(value)}'
        file.write_text(f'{{"parameters": {{{member}}}}}' if place != key else f"{{{member}}}")
        origins = {str(file): read_model(file, runtime)}
        file.write_text("{}")
        for name in (ours, theirs):
            others = {} if key == "implementation" else runtime
            origins[name] = read_model(file, {**others, name: value})
        for origin, found in origins.items():
            if key == "autogenerate_inference_pool_gid":
                assert found.settings.inference_pool_gid is not None
            else:
                assert found.origins[BECOMES.get(key, key)] == origin
        seen.add(key)

    assert seen == {field.name for field in fields(Keys)}


@pytest.mark.parametrize("settings", [ServerSettings, CorsSettings, Keys])
def test_every_number_says_what_it_counts(settings: type) -> None:
    hints = HINTS if settings is Keys else get_type_hints(settings)
    numbers = [
        field
        for field in fields(settings)
        if described(hints[field.name]).startswith(("integer", "number"))
        and not field.name.endswith(NO_QUANTITIES)
    ]

    assert numbers
    assert [field.name for field in numbers if not field.metadata["unit"]] == []
