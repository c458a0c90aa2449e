"""What a bundle is made of: `headrace.yaml`, and BentoML's and VtsServing's files of that kind."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from headrace.archives.walking import resolved
from headrace.environments import yaml_file
from headrace.environments.lines import read_text
from headrace.errors import (
    ConfigurationError,
    InvalidInput,
    InvalidModel,
    did_you_mean,
    shorten,
)
from headrace.packaging import dockerfile_syntax as syntax
from headrace.sources.folder_source import BUILD_FILES
from headrace.store.tag import Tag

# Of each other: a build file written for one of these programs is read with the variable of any.
MODEL_PATHS = (
    "HEADRACE_MLFLOW_MODEL_PATH", "BENTOML_MLFLOW_MODEL_PATH", "VTSSERVING_MLFLOW_MODEL_PATH",
)  # fmt: skip
KEYS = {
    "": ("service", "name", "description", "labels", "include", "exclude", "models", "python",
         "conda", "docker"),
    "models": ("tag", "filter", "alias"),
    "python": ("requirements_txt", "packages", "lock_packages", "index_url", "no_index",
               "trusted_host", "find_links", "extra_index_url", "pip_args", "wheels"),
    "conda": ("environment_yml", "channels", "dependencies", "pip"),
    "docker": ("distro", "python_version", "cuda_version", "env", "system_packages",
               "setup_script", "base_image", "dockerfile_template"),
}  # fmt: skip
REFUSED = {
    "python.pip_args": "options of pip cannot be passed on; python.index_url, find_links, "
    "trusted_host and no_index say where packages come from",
    "docker.dockerfile_template": "templates are not supported; docker.base_image, "
    "system_packages, env and setup_script cover what they are for",
    "models.filter": "a model is taken whole; list the ones that are needed by their tags",
}

_REFERENCE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_PYTHON = re.compile(r"3\.(\d{1,2})(?:\.\d{1,3})?")
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?")
_SERVICE = re.compile(r"[\w./-]+(?::[A-Za-z_][\w.]*)?")


@dataclass(frozen=True)
class PythonPart:
    """`requirements` is a file, or None; `options` are lines for pip about indexes."""

    requirements: Path | None = None
    packages: tuple[str, ...] = ()
    lock: bool = True
    options: tuple[str, ...] = ()
    wheels: tuple[Path, ...] = ()


@dataclass(frozen=True)
class CondaPart:
    """`environment` is a file, or None; `channels` have no effect without conda."""

    environment: Path | None = None
    dependencies: tuple[str, ...] = ()
    pip: tuple[str, ...] = ()


@dataclass(frozen=True)
class DockerPart:
    """What an image of the bundle is started from, and what the build adds."""

    base_image: str | None = None
    python_version: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    system_packages: tuple[str, ...] = ()
    setup_script: Path | None = None
    gpu: bool = False


@dataclass(frozen=True)
class BuildFile:
    """A build file whose every value was checked; paths are absolute."""

    folder: Path
    service: str | None = None
    name: str | None = None
    description: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    models: tuple[Tag, ...] = ()
    python: PythonPart = PythonPart()
    conda: CondaPart = CondaPart()
    docker: DockerPart = DockerPart()

    def root_of(self, file: Path) -> Path:
        """The folder that the files which a file refers to must be in.

        That is the bundle's, or that of a file to which a variable of the environment has led.
        """
        return self.folder if file.is_relative_to(self.folder) else file.parent

    def roots(self) -> set[Path]:
        """All folders that requirements may name archives of."""
        files = (self.python.requirements, self.conda.environment)
        return {self.folder, *(self.root_of(file) for file in files if file is not None)}


def find(folder: Path) -> Path | None:
    """The build file in a folder, or None."""
    return next((folder / name for name in BUILD_FILES if (folder / name).is_file()), None)


def read(file: Path, folder: Path, environ: Mapping[str, str] = os.environ) -> BuildFile:
    """Read a build file; paths in it are relative to `folder`, which the bundle is made of.

    Raises:
        ConfigurationError: a key is unknown or a value is wrong; the message says which.
    """
    try:
        raw = yaml_file.read(file, shown=str(file))
    except InvalidModel as error:
        raise ConfigurationError(error.message) from None
    return of(raw, str(file), folder, environ)


def of(
    raw: Mapping[str, Any], shown: str, folder: Path, environ: Mapping[str, str] = os.environ
) -> BuildFile:
    """What a build file with these keys says; `shown` is what messages call it.

    Raises:
        ConfigurationError: a key is unknown or a value is wrong; the message says which.
    """
    return _Reader(shown, folder.resolve(), environ).build_file(dict(raw))


class _Reader:
    def __init__(self, shown: str, folder: Path, environ: Mapping[str, str]) -> None:
        self._shown = shown
        self._folder = folder
        self._environ = environ

    def build_file(self, raw: dict[str, Any]) -> BuildFile:
        raw = _given(raw)
        self._check_keys(raw, "")
        python, conda, docker = (self._part(raw, key) for key in ("python", "conda", "docker"))
        return BuildFile(
            folder=self._folder,
            service=self._service(raw),
            name=self._name(raw),
            description=self._description(raw),
            labels=self._labels(raw.get("labels")),
            include=self._patterns(raw, "include") or ("*",),
            exclude=self._patterns(raw, "exclude"),
            models=tuple(self._model(each) for each in self._as_list(raw.get("models"))),
            python=self._python(python),
            conda=self._conda(conda),
            docker=self._docker(docker),
        )

    def _python(self, raw: dict[str, Any]) -> PythonPart:
        options = [f"--index-url {each}" for each in self._urls(raw, "index_url")]
        options += [f"--extra-index-url {each}" for each in self._urls(raw, "extra_index_url")]
        options += [f"--find-links {each}" for each in self._urls(raw, "find_links")]
        options += [f"--trusted-host {each}" for each in self._words(raw, "python", "trusted_host")]
        options += ["--no-index"] if self._bool(raw, "python.no_index", False) else []
        return PythonPart(
            self._path(raw, "python.requirements_txt"),
            self._words(raw, "python", "packages"),
            self._bool(raw, "python.lock_packages", True),
            tuple(options),
            tuple(
                self._inside(each, "python.wheels") for each in self._words(raw, "python", "wheels")
            ),
        )

    def _conda(self, raw: dict[str, Any]) -> CondaPart:
        self._words(raw, "conda", "channels")
        given = self._as_list(raw.get("dependencies"))
        # As in an environment.yml, what pip installs may be among them.
        of_pip = [each for each in given if isinstance(each, dict) and each.keys() == {"pip"}]
        listed = {"dependencies": [each for each in given if each not in of_pip]}
        return CondaPart(
            self._path(raw, "conda.environment_yml"),
            self._words(listed, "conda", "dependencies"),
            (
                *self._words(raw, "conda", "pip"),
                *(word for each in of_pip for word in self._words(each, "conda", "pip")),
            ),
        )

    def _docker(self, raw: dict[str, Any]) -> DockerPart:
        distro = raw.get("distro") or "debian"
        if distro != "debian":
            self._fail("docker.distro", f"expected debian, got '{shorten(distro)}'; an image with "
                       "Python of another system can be the docker.base_image")  # fmt: skip
        base = raw.get("base_image")
        if base is not None:
            syntax.image_name(self._text(base, "docker.base_image"), self._at("docker.base_image"))
        packages = self._words(raw, "docker", "system_packages")
        where = self._at("docker.system_packages")
        return DockerPart(
            base,
            self._python_version(raw.get("python_version")),
            self._env(raw.get("env")),
            tuple(syntax.system_package(each, where) for each in packages),
            self._path(raw, "docker.setup_script"),
            bool(raw.get("cuda_version")),
        )

    def _env(self, given: Any) -> dict[str, str]:
        where = self._at("docker.env")
        if isinstance(given, str) and given:
            file = self._inside(given, "docker.env")
            lines = [line.strip() for line in self._content(file, "docker.env").splitlines()]
            given = [line for line in lines if line and not line.startswith("#")]
        if isinstance(given, Mapping):
            pairs = [(str(name), self._text(value, "docker.env")) for name, value in given.items()]
        else:
            texts = [self._text(each, "docker.env") for each in self._as_list(given)]
            for text in texts:
                if "=" not in text:
                    self._fail("docker.env", f"expected NAME=VALUE, got '{shorten(text)}'")
            pairs = [(name, value) for name, _, value in (text.partition("=") for text in texts)]
        return dict(syntax.variable(name, value, where) for name, value in pairs)

    def _service(self, raw: dict[str, Any]) -> str | None:
        given = raw.get("service")
        if given in (None, ""):
            return None
        text = self._text(given, "service")
        parts = text.partition(":")[0].split("/")
        if not _SERVICE.fullmatch(text) or ".." in parts or text.startswith(("/", "-")):
            self._fail("service", f"expected module:attribute or service.py:attribute, got "
                       f"'{shorten(text)}'")  # fmt: skip
        return text

    def _name(self, raw: dict[str, Any]) -> str | None:
        given = raw.get("name")
        if given in (None, ""):
            return None
        try:
            tag = Tag(self._text(given, "name"))
        except InvalidInput as error:
            self._fail("name", error.message)
        return tag.name

    def _description(self, raw: dict[str, Any]) -> str:
        text = self._text(raw.get("description") or "", "description")
        if not text.startswith("file:"):
            return text
        file = self._inside(text.removeprefix("file:").strip(), "description")
        return self._content(file, "description")

    def _content(self, file: Path, key: str) -> str:
        try:
            return read_text(file)
        except InvalidModel as error:
            self._fail(key, error.message)

    def _labels(self, given: Any) -> dict[str, str]:
        if given in (None, ""):
            return {}
        if not isinstance(given, dict):
            self._fail("labels", "expected a mapping of text to text")
        for key, value in given.items():
            if not _LABEL.fullmatch(str(key)) or not isinstance(value, str):
                self._fail("labels", f"expected a mapping of text to text at '{shorten(key)}'")
            if not value.isprintable():
                self._fail(f"labels.{key}", "has a line break or another control character")
        return dict(given)

    def _model(self, given: Any) -> Tag:
        if isinstance(given, dict):
            self._check_keys(given, "models")
            given = given.get("tag")
        try:
            return Tag.parse(self._text(given, "models"))
        except InvalidInput as error:
            self._fail("models", error.message)

    def _python_version(self, given: Any) -> str | None:
        if given in (None, ""):
            return None
        match = _PYTHON.fullmatch(self._text(given, "docker.python_version"))
        if match is None or int(match[1]) < 11:
            self._fail("docker.python_version", f"expected 3.11 or later, got '{shorten(given)}'")
        return f"3.{match[1]}"

    def _patterns(self, raw: dict[str, Any], key: str) -> tuple[str, ...]:
        found = self._words(raw, "", key)
        for pattern in found:
            bare = pattern.lstrip("!")
            if ".." in bare.split("/") or bare.startswith("~"):
                self._fail(key, f"'{shorten(pattern)}' leads out of the folder {self._folder}")
        return found

    def _path(self, raw: dict[str, Any], key: str) -> Path | None:
        given = raw.get(key.partition(".")[2])
        return None if given in (None, "") else self._inside(self._text(given, key), key)

    def _inside(self, text: str, key: str) -> Path:
        """A file in the folder, or one that a variable of the environment leads to."""
        expanded = self._expanded(text, key)
        file = resolved(self._folder / expanded)
        if not _REFERENCE.match(text) and not file.is_relative_to(self._folder):
            self._fail(
                key,
                f"'{shorten(text)}' leads out of the folder {self._folder}; only a variable of "
                "the environment may, such as $HEADRACE_MLFLOW_MODEL_PATH",
            )
        if not file.is_file():
            self._fail(key, f"there is no file '{shorten(expanded)}'")
        return file

    def _expanded(self, text: str, key: str) -> str:
        def value(match: re.Match[str]) -> str:
            name = match[1] or match[2]
            names = MODEL_PATHS if name in MODEL_PATHS else (name,)
            for each in (name, *names):
                if self._environ.get(each):
                    return self._environ[each]
            raise ConfigurationError(f"{self._at(key)}: the environment has no variable {name}")

        return _REFERENCE.sub(value, text)

    def _urls(self, raw: dict[str, Any], key: str) -> list[str]:
        found = self._words(raw, "python", key)
        for each in found:
            if not re.fullmatch(r"(https?|file)://\S+", each):
                self._fail(f"python.{key}", f"expected a URL, got '{shorten(each)}'")
        return list(found)

    def _words(self, raw: dict[str, Any], part: str, key: str) -> tuple[str, ...]:
        """A list of texts, or one text; none has control characters."""
        where = f"{part}.{key}" if part else key
        return tuple(self._text(each, where) for each in self._as_list(raw.get(key)))

    def _as_list(self, given: Any) -> list[Any]:
        if given in (None, ""):
            return []
        return list(given) if isinstance(given, list) else [given]

    def _text(self, given: Any, key: str) -> str:
        if not isinstance(given, str):
            self._fail(key, f"expected text, got {type(given).__name__}")
        if key not in ("description", "docker.env") and not given.isprintable():
            self._fail(key, f"'{shorten(given)}' has a line break or another control character")
        return given

    def _bool(self, raw: dict[str, Any], key: str, default: bool) -> bool:
        given = raw.get(key.partition(".")[2])
        words = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
        if given in (None, ""):
            return default
        found = words.get(str(given).lower())
        if found is None:
            self._fail(key, f"expected true or false, got '{shorten(given)}'")
        return found

    def _part(self, raw: dict[str, Any], name: str) -> dict[str, Any]:
        part = raw.get(name)
        if part in (None, ""):
            return {}
        if not isinstance(part, dict):
            self._fail(name, "expected a mapping")
        part = _given(part)
        self._check_keys(part, name)
        return part

    def _check_keys(self, raw: Mapping[Any, Any], part: str) -> None:
        for key in raw:
            where = f"{part}.{key}" if part else str(key)
            if where in REFUSED and raw[key] not in (None, ""):
                self._fail(where, REFUSED[where])
            if key not in KEYS[part]:
                near = _nearest(key, KEYS[part])
                raise ConfigurationError(
                    f"{self._at(part)}{': ' if part else ''}there is no key '{shorten(key)}'{near}"
                )

    def _at(self, key: str) -> str:
        return f"{self._shown}: {key}"

    def _fail(self, key: str, reason: str) -> NoReturn:
        raise ConfigurationError(f"{self._at(key)}: {reason}")


def _given(raw: Mapping[Any, Any]) -> dict[Any, Any]:
    """The keys that have a value."""
    return {key: each for key, each in raw.items() if each not in yaml_file.NULLS}


def _nearest(key: Any, known: Iterable[str]) -> str:
    known = list(known)
    return did_you_mean(key, known) or f"; the keys are {', '.join(known)}"
