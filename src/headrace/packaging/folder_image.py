"""The image of a folder of models, or of one MLflow model."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from packaging.utils import canonicalize_name

from headrace.environments import need
from headrace.errors import ConfigurationError, InvalidModel, listing
from headrace.packaging import dockerfile_syntax as syntax
from headrace.packaging import folder_requirements
from headrace.packaging.folder_requirements import FolderRequirements
from headrace.packaging.image_text import Image
from headrace.runtimes import catalog
from headrace.settings import ModelSettings
from headrace.sources.discovery import open_source
from headrace.sources.model_file import FoundModel
from headrace.sources.names import checked_name, name_of_folder

TARGET = "/models"
DEFAULT_IMAGE = "python:{}-slim"
# Modules whose distribution has another name.
_DISTRIBUTIONS = {"sklearn": ("scikit-learn",), "xgboost": ("xgboost", "xgboost-cpu")}


@dataclass(frozen=True)
class ImageOptions:
    """What the command line says about an image; None leaves the choice to us."""

    base: str | None = None
    wheel: Path | None = None
    name: str | None = None
    mounts: bool = True
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ImagePlan:
    """An image, the lines of its requirements file (without Headrace), and Headrace's extras.

    `notes` are what a user should know, such as a package that is left out.
    """

    image: Image
    requirements: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def plan(folder: Path, options: ImageOptions, content: str = ".") -> ImagePlan:
    """The image of the models in a folder, which is `content` of the build context.

    Raises:
        ConfigurationError: the folder holds no model, or its settings or requirements are wrong.
    """
    models = open_source(str(folder), options.name, {}).found()
    if not models:
        raise ConfigurationError(
            f"{folder} holds no model: expected an MLmodel file, or model-settings.json in it or "
            "below; a service is named by its file, such as service.py:svc"
        )
    # The files of an MLflow model say what its own environment needs.
    is_model = (folder / "MLmodel").is_file()
    wanted = FolderRequirements() if is_model else folder_requirements.read(folder, TARGET)
    python = wanted.python or _common_python(models)
    image = Image(
        base=base_image(options, python),
        content=content,
        target=TARGET,
        needs_content=wanted.names_files,
        env={**_name_of_single(models, folder), **options.env},
        title=models[0].settings.name if len(models) == 1 else name_of_folder(folder.resolve()),
        mounts=options.mounts,
    )
    needed = {extra for model in models for extra in extras(model.settings, wanted.names)}
    return ImagePlan(image, wanted.lines, tuple(sorted(needed)), tuple(_notes(wanted)))


def base_image(options: ImageOptions, python: str | None) -> str:
    """The base image: the one given, or Python's own slim one of a minor version."""
    if options.base is not None:
        return syntax.image_name(options.base, "--base-image")
    return DEFAULT_IMAGE.format(python or "{}.{}".format(*sys.version_info))


def _name_of_single(models: list[FoundModel], folder: Path) -> dict[str, str]:
    """The name of a model that has none of its own: its folder has another name in the image.

    In the variable that KServe sets too, so that it can name the model that it mounts.
    """
    if len(models) > 1:
        return {}
    name = models[0].settings.name
    return {"MLSERVER_MODEL_NAME": checked_name(name, str(folder))}


def _common_python(models: list[FoundModel]) -> str | None:
    """The Python that all models ask for, where the server runs on it too."""
    asked = {_need(model.settings).python for model in models}
    python = asked.pop() if len(asked) == 1 else None
    if python is None:
        return None
    major, minor = map(int, python.split("."))
    return python if (major, minor) >= folder_requirements.OLDEST_SERVER else None


def extras(settings: ModelSettings, names: frozenset[str]) -> Iterator[str]:
    """Headrace's extras that the server's environment needs for a model.

    None if the model gets an environment of its own, or its framework is among `names`, the
    packages that are installed anyway.
    """
    entry = catalog.find(settings.implementation)
    if settings.implementation == catalog.MLFLOW.class_path:
        entry = catalog.MLFLOW
    if entry is None or settings.environment_path or settings.environment_tarball:
        return
    if _need(settings).is_stated:
        return
    given = {name for module in entry.frameworks for name in _names_of(module)} & names
    if not given:
        yield entry.extra


def _names_of(module: str) -> tuple[str, ...]:
    return _DISTRIBUTIONS.get(module, (canonicalize_name(module),))


def _need(settings: ModelSettings) -> need.Need:
    try:
        return need.of_model(settings)
    except InvalidModel as error:
        raise ConfigurationError(f"model '{settings.name}': {error.message}") from None


def _notes(wanted: FolderRequirements) -> Iterator[str]:
    if wanted.replaced:
        yield f"{listing(wanted.replaced)}: left out, Headrace takes their place"
    if wanted.conda_only:
        yield (
            f"{listing(wanted.conda_only)}: left out, since only conda installs them; list them "
            "under pip by the names that pip knows, or use --base-image with an image that has them"
        )
