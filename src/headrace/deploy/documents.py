"""Manifests as YAML that every reader takes for the same values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

Manifest = Mapping[str, Any]

# What no reader of YAML 1.1 or 1.2 takes for anything but text. Kubernetes and Compose read other
# dialects than PyYAML, in which 1e3 and y are a number and a boolean.
_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_./-]*(:[A-Za-z0-9_./-]+)*")
_WORDS = frozenset(("y", "yes", "n", "no", "on", "off", "true", "false", "null", "nan", "inf"))


class _Dumper(yaml.SafeDumper):
    """Quotes all text that might be read as something else, and never writes an anchor."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        # Lists are indented, as Kubernetes' own examples are.
        super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = None if _PLAIN.fullmatch(value) and value.lower() not in _WORDS else '"'
    if value.count("\n") > 1:
        style = "|"
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def dump(value: Any) -> str:
    """The YAML of one document, with keys in their order; equal values give equal text."""
    text: str = yaml.dump(
        value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=float("inf")
    )
    return text


def joined(manifests: Iterable[Manifest]) -> str:
    """The YAML of several documents, for `kubectl apply -f -`."""
    return "---\n".join(dump(each) for each in manifests)
