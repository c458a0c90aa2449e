"""Renders the tables of docs/reference/settings.md from the settings; `make docs` runs this."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any, get_type_hints

from headrace.protocol.open_inference.json_faults import described
from headrace.settings import MIB, CorsSettings, ModelSettings, ServerSettings
from headrace.sources import model_file
from headrace.sources.follow import Canary, Follow, Rollback, Shadow, Sticky
from headrace.sources.model_keys import HINTS, NESTED, Environment, Keys
from headrace.sources.variables import PREFIXES

PAGE = Path(__file__).parents[2] / "docs/reference/settings.md"
TABLE = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->\n)", re.DOTALL)

Rows = Iterator[tuple[str, ...]]


def rendered(text: str) -> str:
    """The page with its tables as the settings are now, and all other text unchanged."""
    return TABLE.sub(lambda table: table[1] + "\n" + TABLES[table[2]]() + "\n" + table[3], text)


def flags(name: str, hint: Any) -> list[str]:
    """The flags of a setting of the server."""
    flag = name.replace("_", "-")
    return [f"--{flag}", f"--no-{flag}"] if described(hint) == "boolean" else [f"--{flag}"]


def variables(name: str, prefixes: tuple[str, ...] = PREFIXES) -> list[str]:
    """The variables of a setting."""
    return [prefix + name.upper() for prefix in prefixes]


def _server() -> str:
    return _table(("key, flag, variables", "type", "default", "meaning"), _server_rows())


def _server_rows() -> Rows:
    hints = get_type_hints(ServerSettings)
    for field in fields(ServerSettings):
        yield (
            _names(field.name, *flags(field.name, hints[field.name]), *variables(field.name)),
            _type(hints[field.name], field),
            _default(field),
            field.metadata["help"],
        )


def _cors() -> str:
    hints = get_type_hints(CorsSettings)
    return _table(
        ("key", "type", "default", "meaning"),
        (
            (f"`{each.name}`", _type(hints[each.name], each), _default(each), each.metadata["help"])
            for each in fields(CorsSettings)
        ),
    )


def _model() -> str:
    return _table(("key, variables", "type", "default", "meaning"), _model_rows())


def _model_rows() -> Rows:
    used = {field.name: field for field in fields(ModelSettings)}
    for key in fields(Keys):
        yield (
            _names(
                f"parameters.{key.name}" if key.name in NESTED else key.name,
                *variables(key.name, model_file.PREFIXES),
            ),
            _type(HINTS[key.name], key),
            # The default of a key is that of the settings made from it.
            key.metadata["unset"] or _default(used[key.name]),
            key.metadata["help"],
        )


def _members(key: str, struct: type) -> str:
    return _table(
        ("key", "type", "meaning"),
        (
            (f"`{key}.{name}`", described(hint), hint.__metadata__[-1].description)
            for name, hint in get_type_hints(struct, include_extras=True).items()
        ),
    )


def _type(hint: Any, field: Field[Any]) -> str:
    if choices := field.metadata.get("choices"):
        return ", ".join(f"`{choice}`" for choice in choices)
    unit = field.metadata["unit"]
    above = field.metadata.get("above")
    bound = "" if above is None else f", above {above}"
    return described(hint) + bound + (f" ({unit})" if unit else "")


def _default(field: Field[Any]) -> str:
    if words := field.metadata.get("unset"):
        return str(words)
    value = field.default if field.default_factory is MISSING else field.default_factory()
    if value in (None, "", ()):
        return "none"
    shown = f"`{value if isinstance(value, str) else json.dumps(value)}`"
    is_size = field.metadata.get("unit") == "bytes" and value >= MIB
    return f"{shown} ({value // MIB} MiB)" if is_size else shown


def _names(*names: str) -> str:
    return "<br>".join(f"`{name}`" for name in names)


def _table(head: tuple[str, ...], rows: Any) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines).replace("| --- ", "|---")


TABLES = {
    "server": _server,
    "cors": _cors,
    "model": _model,
    "environment": lambda: _members("environment", Environment),
    "follow": lambda: _members("follow", Follow),
    "canary": lambda: _members("follow.canary", Canary),
    "sticky": lambda: _members("follow.canary.sticky", Sticky),
    "shadow": lambda: _members("follow.shadow", Shadow),
    "rollback": lambda: _members("follow.rollback", Rollback),
}

if __name__ == "__main__":
    PAGE.write_text(rendered(PAGE.read_text()))
