"""What hadolint says of the Dockerfiles that are written: nothing."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from headrace.packaging.image_text import Image, dockerfile

HADOLINT = Path(sys.executable).with_name("hadolint")
PLAIN = Image(base="python:3.11-slim", content=".", target="/models")
IMAGES = {
    "plain": PLAIN,
    "without mounts": replace(PLAIN, mounts=False),
    "with files for pip": replace(PLAIN, needs_content=True),
    "with all": replace(
        PLAIN,
        env={"A": "x $HOME \"q\" `id` 'a' \\ #"},
        system_packages=("libgomp1", "ffmpeg=7:5.1"),
        setup_script="env/docker/setup_script",
        title='a "b" $c',
    ),
}


@pytest.mark.parametrize("image", IMAGES)
def test_hadolint_has_nothing_to_say_of_a_dockerfile(image: str) -> None:
    text = dockerfile(IMAGES[image])
    done = subprocess.run([HADOLINT, "--no-color", "-"], input=text, capture_output=True, text=True)

    assert (done.returncode, done.stdout) == (0, "")


def test_hadolint_would_say_something() -> None:
    done = subprocess.run(
        [HADOLINT, "-"], input="FROM debian:latest\nRUN cd x\n", capture_output=True, text=True
    )

    assert done.returncode == 1
    assert "DL3007" in done.stdout
