"""What is known of a stored model: its record, `model.yaml`, and the signatures in it."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from headrace.errors import InvalidInput, InvalidModel, shorten
from headrace.store.record_yaml import dump, read_record
from headrace.store.tag import Tag

RECORD = "model.yaml"
API_VERSION = "v1"
# What wrote a model's folder. Their framework modules have the same names and files as ours.
PACKAGES = ("headrace", "bentoml", "vtsserving")


@dataclass(frozen=True)
class Signature:
    """How a method of a model may be called.

    `batchable` says whether requests may be merged, and `batch_dim` along which dimension of the
    input, and of the output.
    """

    batchable: bool = False
    batch_dim: tuple[int, int] = (0, 0)

    @classmethod
    def of(cls, given: Any, where: str) -> Signature:
        """The signature that a dict such as `{"batchable": True, "batch_dim": 0}` describes.

        Raises:
            InvalidInput: it describes none; `where` is the place it was read from.
        """
        if isinstance(given, Signature):
            return given
        if not isinstance(given, Mapping):
            raise InvalidInput(f"{where}: expected a dict with batchable and batch_dim")
        # Other programs keep the shapes they saw here, which nothing needs.
        unknown = given.keys() - {"batchable", "batch_dim", "input_spec", "output_spec"}
        if unknown:
            raise InvalidInput(
                f"{where}: there is no '{shorten(min(unknown, key=str))}', only batchable and "
                "batch_dim"
            )
        batchable = given.get("batchable", False)
        if not isinstance(batchable, bool):
            raise InvalidInput(f"{where}: batchable: expected True or False")
        return cls(batchable, _dimensions(given.get("batch_dim", 0), where))

    def to_dict(self) -> dict[str, Any]:
        """The form it has in a record."""
        if not self.batchable:
            return {"batchable": False}
        return {"batchable": True, "batch_dim": list(self.batch_dim)}


class ModelContext(dict[str, Any]):
    """What saved a model: a dict whose first two keys are attributes too."""

    def __init__(
        self, /, framework_name: str = "", framework_versions: Any = None, **others: Any
    ) -> None:
        known = {"framework_name": framework_name, "framework_versions": framework_versions or {}}
        super().__init__({name: each for name, each in known.items() if each} | others)

    @property
    def framework_name(self) -> str:
        return str(self.get("framework_name", ""))

    @property
    def framework_versions(self) -> dict[str, str]:
        return dict(self.get("framework_versions") or {})


@dataclass(frozen=True)
class ModelInfo:
    """The record of a stored model.

    `module` is the framework module that loads it, such as `headrace.sklearn`. `context` says
    what saved it: `framework_name`, `framework_versions`, `headrace_version`, `python_version`.
    `digests` has the SHA-256 of each file, by its path in the model's folder.
    """

    name: str
    version: str
    module: str
    labels: dict[str, str] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    metadata: dict[Any, Any] = field(default_factory=dict)
    context: ModelContext = field(default_factory=ModelContext)
    signatures: dict[str, Signature] = field(default_factory=dict)
    api_version: str = API_VERSION
    creation_time: datetime.datetime = field(default_factory=lambda: now())
    digests: dict[str, str] = field(default_factory=dict)

    @property
    def tag(self) -> Tag:
        """The name and the version."""
        return Tag(self.name, self.version)

    def to_dict(self) -> dict[str, Any]:
        """The content of the record, in its order."""
        return {
            "name": self.name,
            "version": self.version,
            "module": self.module,
            "labels": self.labels,
            "options": self.options,
            "metadata": self.metadata,
            "context": dict(self.context),
            "signatures": {name: each.to_dict() for name, each in self.signatures.items()},
            "api_version": self.api_version,
            "creation_time": self.creation_time.isoformat(),
        }

    def dump(self) -> str:
        """The text of the record."""
        return dump(self.to_dict())

    def under(self, name: str, version: str) -> ModelInfo:
        """The same under another tag."""
        return replace(self, name=name, version=version)

    @classmethod
    def read(cls, folder: Path) -> ModelInfo:
        """The record in a model's folder, whichever version of whichever program wrote it.

        Raises:
            InvalidModel: it is missing or wrong.
        """
        raw = read_record(folder / RECORD)
        try:
            return cls(
                name=_text(raw, "name"),
                version=_text(raw, "version"),
                module=own_module(str(raw.get("module") or "")),
                labels=checked_labels(raw.get("labels") or {}),
                options=_dict(raw, "options"),
                metadata=_dict(raw, "metadata"),
                context=ModelContext(
                    **{str(key): each for key, each in _dict(raw, "context").items()}
                ),
                signatures=checked_signatures(raw.get("signatures") or {}),
                api_version=str(raw.get("api_version") or API_VERSION),
                creation_time=time_of(raw),
            )
        except InvalidInput as error:
            raise InvalidModel(f"'{RECORD}': {error.message}") from None


def own_module(module: str) -> str:
    """The name in Headrace of a framework module, such as `bentoml.sklearn`; others stay."""
    package, dot, rest = module.partition(".")
    return f"headrace.{rest}" if dot and package in PACKAGES else module


def checked_labels(given: Any) -> dict[str, str]:
    """Labels: text by text.

    Raises:
        InvalidInput: a key or a value is something else.
    """
    if not isinstance(given, Mapping):
        raise InvalidInput(f"labels: expected a dict, got {type(given).__name__}")
    for key, value in given.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise InvalidInput(f"labels.{shorten(key)}: expected text, got {type(value).__name__}")
    return dict(given)


def checked_signatures(given: Any) -> dict[str, Signature]:
    """Signatures by the names of their methods.

    Raises:
        InvalidInput: one is wrong.
    """
    if not isinstance(given, Mapping):
        raise InvalidInput(f"signatures: expected a dict, got {type(given).__name__}")
    found = {}
    for name, each in given.items():
        if not isinstance(name, str) or not name.isidentifier():
            raise InvalidInput(f"signatures: '{shorten(name)}' is not the name of a method")
        found[name] = Signature.of(each, f"signatures.{name}")
    return found


def checked_options(given: Any, what: str) -> dict[str, Any]:
    """Options or a context: the values that metadata may have, by text."""
    if isinstance(given, Mapping):
        given = dict(given)
    elif hasattr(given, "to_dict"):
        given = given.to_dict()
    # Imported here, with numpy: a server that starts only reads what was given before.
    from headrace.store.metadata_values import normalised

    return normalised(given, what)


def time_of(raw: Mapping[str, Any]) -> datetime.datetime:
    """The creation time in a record, with its time zone.

    Raises:
        InvalidModel: it has none.
    """
    given = raw.get("creation_time")
    try:
        found = (
            given
            if isinstance(given, datetime.datetime)
            else datetime.datetime.fromisoformat(str(given))
        )
        # Without a zone it is UTC, as everywhere else in the store.
        return found if found.tzinfo else found.replace(tzinfo=datetime.UTC)
    except ValueError:
        raise InvalidModel(f"creation_time: expected a time, got '{shorten(given)}'") from None


def now() -> datetime.datetime:
    """The time, in UTC."""
    return datetime.datetime.now(datetime.UTC)


def _dimensions(given: Any, where: str) -> tuple[int, int]:
    both = (given, given) if isinstance(given, int) else tuple(given or ())
    if len(both) != 2 or not all(type(each) is int and each >= 0 for each in both):
        raise InvalidInput(
            f"{where}: batch_dim: expected a dimension, or those of the input and the output"
        )
    return both[0], both[1]


def _text(raw: Mapping[str, Any], key: str) -> str:
    value = raw.get(key)
    # Unquoted, a version such as 20240101 or 1.0 is a number.
    if not isinstance(value, (str, int, float)) or isinstance(value, bool):
        raise InvalidInput(f"{key}: expected text")
    return str(value)


def _dict(raw: Mapping[str, Any], key: str) -> dict[Any, Any]:
    value = raw.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidInput(f"{key}: expected a mapping")
    return value
