"""What stores hold, and where: for those who ask whether something is in one.

Imports nothing that reads items, so that a server of what is in no store starts without that.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from headrace.settings import home_folder


@dataclass(frozen=True)
class Kind:
    """What a store holds: the word for it, its folder in the home folder, and its record.

    The record is a YAML mapping with `name`, `version` and `creation_time`.
    """

    word: str
    folder: str
    record: str


MODELS = Kind("model", "models", "model.yaml")
BUNDLES = Kind("bundle", "bundles", "bundle.yaml")
# Set while a bundle is served, to its folder: models are found in it and nowhere else.
BUNDLE_VARIABLE = "HEADRACE_BUNDLE"
# A bento is not a bundle of ours, but one can be made from it.
BENTO_RECORD = "bento.yaml"


def root_of(kind: Kind) -> Path:
    """The folder of a kind's items in `HEADRACE_HOME`, or in the bundle that is served."""
    bundle = os.environ.get(BUNDLE_VARIABLE)
    if kind is MODELS and bundle:
        return Path(bundle, kind.folder).absolute()
    return (home_folder() / kind.folder).absolute()


def is_in_store(path: Path) -> bool:
    """Whether a path is below the folder of a kind's items; there may be nothing at it."""
    return any(path.is_relative_to(root_of(kind)) for kind in (MODELS, BUNDLES))


def is_bundle(path: Path) -> bool:
    """Whether a folder is that of a bundle, or a bento that is mistaken for one."""
    return (path / BUNDLES.record).is_file() or is_bento(path)


def is_bento(path: Path) -> bool:
    """Whether a folder or file is what BentoML built of a service."""
    return (path / BENTO_RECORD).is_file() or (path.suffix == ".bento" and path.is_file())
