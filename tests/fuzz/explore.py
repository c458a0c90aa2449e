"""Explores one target with atheris, by coverage: `python -m fuzz.explore TARGET FOLDER... -runs=N`.

What follows the name of the target is for libFuzzer.
"""

from __future__ import annotations

import sys
import warnings

import atheris

with atheris.instrument_imports(include=["headrace", "python_multipart"]):
    from fuzz.decoders import TARGETS


def main() -> None:
    """Explore until the flags end it. libFuzzer exits with another code than 0 at a finding."""
    warnings.simplefilter("ignore")
    program, name, *flags = sys.argv
    target = TARGETS[name]

    def run(data: bytes) -> None:
        target.try_out(data)

    atheris.Setup([program, *flags], run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
