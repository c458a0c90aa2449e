"""Manifests are read as the values that they were written for, by any reader of YAML."""

from __future__ import annotations

import re

import pytest
import yaml

from headrace.deploy import documents

# What Go's and PyYAML's readers, of YAML 1.1 and 1.2, take for something else without quotes.
WORDS = [
    *("y", "N", "yes", "Off", "true", "NULL", "~", "", "nan", ".inf", "=", "<<"),
    *("1", "8080", "0x1f", "0o17", "1e3", "1_000", "12:30:45", "2026-01-01", "-1", "+1", ".5"),
    *("a: b", "a #b", "- a", "{a}", "[a]", "&a", "*a", "!a", "%a", "@a", "`a`", "'a'", '"a"'),
    *("a\nb", "a\n\n  b\n", "\ta", " a ", "a:", "\\", "\u2028", "ü", "\x07", "---", "? a", "| a"),
]


@pytest.mark.parametrize("text", WORDS)
def test_text_stays_text_as_a_value_and_as_a_key(text):
    written = documents.dump({"key": text, "list": [text], text: {"inner": text}})

    assert yaml.safe_load(written) == {"key": text, "list": [text], text: {"inner": text}}
    if not re.search(r"\n", text):
        value = written.splitlines()[0].removeprefix("key: ")
        assert value == "ü" or value.startswith('"')


def test_what_is_plain_stays_plain():
    values = {"a.b/c-d": "http://host:80/path", "image": "registry/a:1.0-b", "port": 8080}

    assert documents.dump(values) == (
        "a.b/c-d: http://host:80/path\nimage: registry/a:1.0-b\nport: 8080\n"
    )


def test_what_is_written_twice_has_no_anchor():
    shared = {"cpu": "1"}

    assert "&" not in documents.dump({"requests": shared, "limits": shared})


def test_documents_are_separated_for_kubectl():
    text = documents.joined([{"kind": "A"}, {"kind": "B"}])

    assert list(yaml.safe_load_all(text)) == [{"kind": "A"}, {"kind": "B"}]
    assert text == "kind: A\n---\nkind: B\n"
