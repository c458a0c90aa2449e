"""Reads a model's settings from `model-settings.json`, or from the environment in its place."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import msgspec

from headrace.archives.walking import resolved
from headrace.errors import ConfigurationError, did_you_mean, nearest, shorten
from headrace.protocol.datatypes import DATATYPES
from headrace.protocol.open_inference.json_faults import syntax_fault
from headrace.runtimes.catalog import MLFLOW
from headrace.settings import ModelSettings
from headrace.sources.follow import Followed
from headrace.sources.model_keys import HINTS, IGNORED, NESTED, TOP, DeclaredTensor, Environment
from headrace.sources.names import checked_name, checked_version, is_uri
from headrace.sources.plugin_argument import PluginArgument
from headrace.sources.settings_file import converted, is_comment, named, read_object

# By its class, so that modules in the folder and in the working directory are found as well.
MLFLOW_RUNTIME = MLFLOW.class_path
SETTINGS_FILE = "model-settings.json"
PREFIXES = ("HEADRACE_MODEL_", "MLSERVER_MODEL_")
DEFAULT = "default"

# Keys that identify a model. Set by variables, they would make several files the same model.
IDENTITY = ("name", "uri", "version")


@dataclass(frozen=True)
class FoundModel:
    """A model's settings, where each came from, and the keys that have no effect.

    `ignored` are keys of MLServer's, and `unknown` sentences about words that nobody knows.
    """

    settings: ModelSettings
    origins: dict[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    @property
    def warnings(self) -> list[str]:
        """A sentence for each word that was given and has no effect."""
        ignored = (f"{SETTINGS_FILE}: {key} is accepted and has no effect" for key in self.ignored)
        return [*ignored, *self.unknown]


def read_model(file: Path, environ: Mapping[str, str], alone: bool = True) -> FoundModel:
    """The model of one file; the environment fills in what the file leaves out.

    Unless the model is `alone`, the environment does not identify it.

    Raises:
        ConfigurationError: the file or a variable is wrong, or no implementation is named.
    """
    raw, ignored, unknown = _read_file(file)
    values, origins = _convert(raw, {key: str(file) for key in raw})
    given, variables = _from_environment(environ)
    for key, value in given.items():
        if key not in values and (alone or key not in IDENTITY):
            values[key], origins[key] = value, variables[key]
    folder = file.parent.resolve()
    if "implementation" not in values:
        raise ConfigurationError(
            f"{file}: names no implementation, such as 'sklearn' or 'module:Class'"
        )
    values.setdefault("name", folder.name)
    return replace(_found(values, origins, folder, ignored), unknown=unknown)


def check_variables(environ: Mapping[str, str]) -> None:
    """Read the variables that describe models.

    Raises:
        ConfigurationError: one is wrong.
    """
    _from_environment(environ)


def faulty_model(name: str, folder: str, fault: str) -> FoundModel:
    """What stands for a model whose description is wrong: it is listed, and does not load."""
    return FoundModel(ModelSettings(name, implementation="", folder=folder, fault=fault))


def model_of_environment(
    folder: Path, environ: Mapping[str, str], name: str | None, default_name: str
) -> FoundModel | None:
    """The model that variables and an `MLmodel` file describe where there is no settings file.

    None if neither names one. `name` is the one from the command line.

    Raises:
        ConfigurationError: a variable is wrong, or none names the implementation.
    """
    values, origins = _from_environment(environ)
    place = Path(_resolve(values.get("uri"), folder))
    if "implementation" not in values:
        if (place / "MLmodel").is_file():
            values["implementation"] = MLFLOW_RUNTIME
        elif "uri" in values:
            raise ConfigurationError(
                f"{origins['uri']}: no MLmodel file is there, so HEADRACE_MODEL_IMPLEMENTATION "
                "has to name the runtime"
            )
        else:
            return None
    if name is not None:
        values["name"], origins["name"] = name, "--name"
    values.setdefault("name", default_name)
    return _found(values, origins, folder, ())


def model_of_uri(
    uri: str, environ: Mapping[str, str], name: str | None, default: str
) -> FoundModel:
    """The MLflow model a URI names.

    Raises:
        ConfigurationError: a variable is wrong.
    """
    values, origins = _from_environment(environ)
    values["uri"], origins["uri"] = uri, "MODEL"
    values.setdefault("implementation", MLFLOW_RUNTIME)
    if name is not None:
        values["name"], origins["name"] = name, "--name"
    values.setdefault("name", default)
    return _found(values, origins, None, ())


def model_of_store(
    given: Mapping[str, Any], environ: Mapping[str, str], name: str | None, origin: str
) -> FoundModel:
    """The model that the store describes by some of its settings; `origin` says which it is.

    The environment comes first, but does not identify the model or say how to load it.

    Raises:
        ConfigurationError: a variable is wrong.
    """
    values, origins = _from_environment(environ)
    for key, value in given.items():
        if key in (*IDENTITY, "implementation") or key not in values:
            values[key], origins[key] = value, origin
    if name is not None:
        values["name"], origins["name"] = name, "--name"
    return _found(values, origins, None, ())


def model_of_plugin(
    plugin: PluginArgument, uri: str, environ: Mapping[str, str], name: str | None, default: str
) -> FoundModel:
    """The model that a plugin loads from `uri`, an absolute path or a URI.

    Raises:
        ConfigurationError: a variable is wrong.
    """
    values, origins = _from_environment(environ)
    values["uri"], origins["uri"] = uri, "MODEL"
    values["implementation"], origins["implementation"] = plugin.implementation, "--plugin"
    if name is not None:
        values["name"], origins["name"] = name, "--name"
    values.setdefault("name", default)
    return _found(values, origins, plugin.folder, ())


def _read_file(file: Path) -> tuple[dict[str, Any], tuple[str, ...], tuple[str, ...]]:
    """The keys that the file sets, flattened, those without effect, and those nobody knows."""
    raw, repeated = read_object(file)
    nested = raw.pop("parameters", None)
    nested = {} if nested is None else nested
    if not isinstance(nested, dict):
        raise ConfigurationError(f"{file}: parameters: expected an object")
    known = HINTS.keys()
    top = {key: value for key, value in raw.items() if key in known and key not in NESTED}
    below = {key: nested[key] for key in NESTED if key in nested}
    given = {key: value for key, value in {**top, **below}.items() if value is not None}
    ignored = tuple(key for key in IGNORED if raw.get(key) or nested.get(key))
    unknown = (*_unknown(raw, file, ""), *_unknown(nested, file, "parameters."))
    return given, ignored, (*repeated, *unknown)


def _unknown(given: dict[str, Any], file: Path, part: str) -> Iterator[str]:
    """Sentences about the keys that have no effect where they stand."""
    here, elsewhere = TOP, NESTED
    if part:
        here, elsewhere = elsewhere, here
    where = f"{file.parent.name}/{file.name}"

    def sentence(key: str) -> str:
        start = f"{where}: {part}{shorten(key)}"
        if key in elsewhere:
            place = "to the top level" if part else "into parameters"
            return f"{start} has no effect here; it belongs {place}"
        near = nearest(key, (*here, *elsewhere))
        hint = "; a class reads options of its own from parameters.extra" if part else ""
        if near:
            hint = f"; did you mean '{near if near in TOP else f'parameters.{near}'}'?"
        return f"{start} is unknown and has no effect{hint}"

    strange = [key for key in given if not (key in here or key in IGNORED or is_comment(key))]
    return named(strange, sentence, where)


def _from_environment(environ: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    raw: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for key in HINTS:
        variable = next((p + key.upper() for p in PREFIXES if environ.get(p + key.upper())), None)
        if variable is None:
            continue
        raw[key], origins[key] = environ[variable], variable
        if key in ("inputs", "outputs", "extra", "environment", "follow"):
            try:
                text = environ[variable].encode("utf-8", "surrogateescape")
                raw[key] = msgspec.json.decode(text)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
                fault = syntax_fault(text)
                raise ConfigurationError(f"{variable}: expected JSON; it is {fault}") from exc
    return _convert(raw, origins)


def _convert(raw: dict[str, Any], origins: dict[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    values: dict[str, Any] = {}
    for key, value in raw.items():
        origin = origins[key]
        # A variable is named after its key; a file has many keys.
        where = origin if origin.endswith(key.upper()) else f"{origin}: {key}"
        values[key] = converted(value, HINTS[key], where)
        if key in ("inputs", "outputs"):
            values[key] = _declared(values[key], where)
    if "version" in values:
        values["version"] = checked_version(str(raw["version"]), origins["version"])
    return values, origins


def _declared(tensors: list[DeclaredTensor], where: str) -> list[dict[str, Any]]:
    """Tensors of a model's metadata, as objects again.

    Raises:
        ConfigurationError: one has a datatype that does not exist.
    """
    for position, tensor in enumerate(tensors):
        if tensor.datatype not in DATATYPES:
            hint = did_you_mean(tensor.datatype, DATATYPES)
            raise ConfigurationError(
                f"{where}[{position}].datatype: there is no datatype "
                f"'{shorten(tensor.datatype)}'{hint}"
            )
    found: list[dict[str, Any]] = msgspec.to_builtins(tensors)
    return found


def _found(
    values: dict[str, Any], origins: dict[str, str], folder: Path | None, ignored: tuple[str, ...]
) -> FoundModel:
    values, origins = dict(values), dict(origins)
    checked_name(values["name"], origins.get("name", "the model's folder"))
    workers = values.pop("parallel_workers", None)
    if workers is not None:
        values["inline"] = workers <= 0
        origins["inline"] = origins.pop("parallel_workers")
    form = values.pop("format", None)
    if form is not None:
        values["extra"] = {"format": form, **values.get("extra", {})}
        origins.setdefault("extra", origins.pop("format"))
    if values.pop("autogenerate_inference_pool_gid", False):
        # The same each time that the file is read, or the model would seem to have changed.
        own = f"{folder}\0{values['name']}\0{values.get('version')}".encode(
            "utf-8", "surrogateescape"
        )
        values.setdefault("inference_pool_gid", hashlib.sha256(own).hexdigest()[:16])
    origins.pop("autogenerate_inference_pool_gid", None)
    try:
        _settle_environment(values, folder)
        values["uri"] = _resolve(values.get("uri"), folder)
    except ValueError as exc:
        raise ConfigurationError(f"{folder}: a path of the model: {exc}") from exc
    values["folder"] = str(folder) if folder is not None else ""
    if values.get("follow") is not None:
        values["follow"] = msgspec.to_builtins(values["follow"])
    settings = ModelSettings(**values)
    if settings.follow is not None:
        try:
            Followed(settings)
        except ConfigurationError as exc:
            # The model fails alone, like any other whose description is wrong.
            settings = replace(settings, follow=None, fault=exc.message)
    every = {key.name: origins.get(key.name, DEFAULT) for key in fields(settings)}
    return FoundModel(settings, every, ignored)


def _settle_environment(values: dict[str, Any], folder: Path | None) -> None:
    """Make paths absolute; they are relative to the file that names them."""
    for key in ("environment_path", "environment_tarball"):
        if values.get(key):
            values[key] = str(resolved((folder or Path()).joinpath(values[key])))
    wanted: Environment | None = values.pop("environment", None)
    if wanted is not None:
        if isinstance(wanted.requirements, str):
            wanted.requirements = str(resolved((folder or Path()).joinpath(wanted.requirements)))
        values["environment"] = msgspec.to_builtins(wanted)


def _resolve(uri: str | None, folder: Path | None) -> str:
    if folder is None or (uri is not None and is_uri(uri)):
        return uri or ""
    return str(folder if uri is None else resolved(folder / uri))
