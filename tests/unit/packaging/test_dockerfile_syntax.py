"""What a user gives reaches a Dockerfile as words, never as instructions."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import ConfigurationError
from headrace.packaging import dockerfile_syntax as syntax
from headrace.packaging.image_text import Image, dockerfile

INSTRUCTIONS = {
    "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "RUN", "USER",
    "WORKDIR",
}  # fmt: skip


def read_value(quoted: str) -> str:
    """What a builder makes of a value in double quotes; fails if anything would be expanded."""
    assert quoted[0] == quoted[-1] == '"'
    inner = quoted[1:-1]
    assert re.fullmatch(r'(?:[^"\\$]|\\["\\$])*', inner), inner
    return re.sub(r"\\(.)", r"\1", inner)


@given(st.text(max_size=60))
def test_a_value_of_a_variable_comes_back_as_it_was_or_is_refused(value):
    try:
        syntax.variable("NAME", value, "docker.env")
    except ConfigurationError:
        return

    (line,) = syntax.env({"NAME": value})

    assert line.splitlines() == [line]
    assert line.startswith("ENV NAME=")
    assert read_value(line.removeprefix("ENV NAME=")) == value


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), min_size=1))
def test_a_command_is_one_line_of_json(words):
    line = syntax.run(words)

    assert line.splitlines() == [line]
    assert json.loads(line.removeprefix("RUN ")) == words


names = st.one_of(st.text(max_size=30), st.sampled_from(["a\nRUN id", "a AS b", "$(id)", "a;id"]))


@given(
    base=names,
    packages=st.lists(names, max_size=3),
    env=st.dictionaries(names, names, max_size=3),
    title=names,
)
def test_whatever_a_user_writes_a_dockerfile_has_our_instructions_only(base, packages, env, title):
    try:
        image = Image(
            base=syntax.image_name(base, "--base-image"),
            content=".",
            target="/models",
            env=dict(syntax.variable(name, value, "--env") for name, value in env.items()),
            system_packages=tuple(syntax.system_package(each, "docker") for each in packages),
            title=syntax.variable("TITLE", title, "name")[1],
        )
    except ConfigurationError:
        return

    lines = [line for line in dockerfile(image).splitlines() if line and not line.startswith("#")]

    assert {line.split(" ", 1)[0] for line in lines} <= INSTRUCTIONS
    plain = dockerfile(Image(base="b", content=".", target="/models", env=env, title="t"))
    extra = 2 * bool(packages) + (0 if title else -1)
    assert len(lines) == sum(not line.startswith("#") for line in plain.split("\n") if line) + extra
    for line in lines:
        if line.startswith("RUN "):
            command = json.loads(line[line.index("[") :])
            assert "$" not in " ".join(command[:2])


@pytest.mark.parametrize(
    "name",
    ["", "A", "-x", "a b", "a\n", "a:b:c", "a\nRUN rm -rf /", "$BASE", "http://x/y", "a@sha256:1"],
)
def test_what_is_not_the_name_of_an_image_is_refused_with_the_flag(name):
    with pytest.raises(ConfigurationError, match=r"--base-image: expected the name of an image"):
        syntax.image_name(name, "--base-image")


@pytest.mark.parametrize(
    "name",
    [
        "python:3.11-slim",
        "localhost/base",
        "localhost:5000/team/base:1",
        "ghcr.io/a/b__c:V1.0_x@sha256:" + "0" * 64,
    ],
)
def test_names_of_images_with_registry_tag_and_digest_are_accepted(name):
    assert syntax.image_name(name, "--tag") == name


@pytest.mark.parametrize("name", ["a b", "-o", "x;id", "x\ny", "$(id)", "../x", "X", ""])
def test_what_is_not_a_debian_package_is_refused(name):
    with pytest.raises(ConfigurationError, match=r"docker\.system_packages: expected the name"):
        syntax.system_package(name, "docker.system_packages")


@pytest.mark.parametrize("name", ["libgomp1", "g++", "ffmpeg=7:5.1.6-0+deb12u1", "libc6:amd64"])
def test_debian_packages_with_version_and_architecture_are_accepted(name):
    assert syntax.system_package(name, "docker.system_packages") == name


@pytest.mark.parametrize("name", ["", "A B", "A=B", "1A", "A\nRUN", "A-B", "$A"])
def test_what_is_not_the_name_of_a_variable_is_refused(name):
    with pytest.raises(ConfigurationError, match="expected the name of a variable"):
        syntax.variable(name, "x", "docker.env")


def test_a_value_with_a_line_break_is_refused_and_named():
    with pytest.raises(ConfigurationError, match=r"docker\.env: the value of KEY has a line break"):
        syntax.variable("KEY", "a\nRUN id", "docker.env")
