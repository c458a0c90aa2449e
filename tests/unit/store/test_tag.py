"""Tags and the versions that are made for them."""

from __future__ import annotations

import logging

import pytest

from headrace.errors import InvalidInput
from headrace.store.tag import Tag, generated_version

HOSTILE = [
    "", ".", "..", "../x", "a/b", "/etc", "a\\b", "-a", "a-", ".a", "a.", "_a", "a b", "a\n",
    "a\0b", "é", "a:b:c", "%2e%2e", "~", "$HOME", "a" * 64, "ſ", "K\u212a",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_refused_with_the_rule(name: str) -> None:
    with pytest.raises(InvalidInput, match="letters, digits"):
        Tag(name)


@pytest.mark.parametrize("version", [v for v in HOSTILE if v != "a:b:c"])
def test_a_hostile_version_is_refused(version: str) -> None:
    with pytest.raises(InvalidInput):
        Tag("a", version)


def test_a_tag_is_a_name_or_a_name_and_a_version() -> None:
    assert Tag.parse("iris") == Tag("iris")
    assert Tag.parse("iris:v1.0_a-b") == Tag("iris", "v1.0_a-b")
    assert [str(Tag("a")), str(Tag("a", "1"))] == ["a", "a:1"]


def test_a_colon_without_a_version_is_refused_with_what_was_meant() -> None:
    with pytest.raises(InvalidInput, match="'iris:latest'"):
        Tag.parse("iris:")


def test_upper_case_is_lowered_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "headrace.store"):
        assert str(Tag.parse("Iris:V1")) == "iris:v1"

    assert caplog.messages == [
        "converting 'Iris' to lower case: 'iris'",
        "converting 'V1' to lower case: 'v1'",
    ]


def test_tags_are_sorted_by_name_and_version_and_those_without_come_first() -> None:
    tags = [Tag("b"), Tag("a", "2"), Tag("a", "10"), Tag("a")]

    assert [str(tag) for tag in sorted(tags)] == ["a", "a:10", "a:2", "b"]


def test_generated_versions_are_sixteen_lower_case_characters_that_sort_by_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    times = [0, 10**15, 1_800_000_000 * 10**9, 1_800_000_000 * 10**9 + 1000, 10**19]
    versions = []
    for time in times:
        monkeypatch.setattr("time.time_ns", lambda time=time: time)
        versions.append(generated_version())

    assert versions == sorted(versions)
    assert {len(version) for version in versions} == {16}
    assert all(Tag("a", version).version == version for version in versions)


def test_versions_of_the_same_microsecond_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time_ns", lambda: 10**18)

    assert len({generated_version() for _ in range(100)}) == 100


def test_a_tag_has_bentomls_names() -> None:
    tag = Tag.from_str("iris:v1")

    assert tag == Tag.from_taglike("iris:v1") == Tag.from_taglike(tag)
    assert (tag.path(), Tag("iris").path(), tag.latest_path()) == (
        "iris/v1",
        "iris",
        "iris/latest",
    )
    made = tag.make_new_version()
    assert (made.name, len(str(made.version))) == ("iris", 16)
