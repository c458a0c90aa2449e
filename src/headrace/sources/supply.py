"""What is served from a source, and what of it is looked at again while it is served."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from headrace.errors import ConfigurationError
from headrace.settings import ModelSettings, ServerSettings
from headrace.sources.follow import followed, marked
from headrace.sources.service_source import ServiceSource
from headrace.sources.source import Source


@dataclass(frozen=True)
class Supply:
    """The models to serve from the start; `find` reads one again before it is loaded again.

    `reloaded` is a service whose files are watched, with the setting `reload`. `look` finds all
    models again where they come and go, with `watch`; both functions may block.
    """

    models: list[ModelSettings]
    find: Callable[[str], list[ModelSettings]]
    look: Callable[[], list[ModelSettings]] | None = None
    reloaded: ServiceSource | None = None


def supply(source: Source, settings: ServerSettings, origins: Mapping[str, str]) -> Supply:
    """What these settings serve from a source; `origins` says where each setting came from.

    Raises:
        ConfigurationError: a model is described wrongly, or a setting is not for such a source.
    """
    source.trust = settings.trust
    reloaded = _service(source, origins["reload"]) if settings.reload else None
    # A tag of the store is followed by looking at it.
    follows = settings.follow and not source.is_stored
    mark = marked if follows else list
    watches = settings.watch or (settings.follow and not follows)
    if watches:
        _require_change(source, origins["watch" if settings.watch else "follow"])

    def look() -> list[ModelSettings]:
        return mark(model.settings for model in source.each())

    models = source.settings()
    return Supply(
        followed(models, origins["follow"]) if follows else models,
        lambda name: mark(source.find(name)),
        look if watches else None,
        reloaded,
    )


def _service(source: Source, origin: str) -> ServiceSource:
    if not isinstance(source, ServiceSource):
        raise ConfigurationError(f"{origin} is for services, and MODEL is not one")
    return source


def _require_change(source: Source, origin: str) -> None:
    """Refuse a source that finds the same for as long as it is served."""
    if source.moves:
        return
    if source.is_stored:
        raise ConfigurationError(
            f"MODEL '{source.place}' names one version, and {origin} is for what moves: "
            f"{source.place.partition(':')[0]}:latest"
        )
    raise ConfigurationError(
        f"{origin} is for folders of models and for the latest version in the store, and MODEL "
        "is neither; --follow follows a registry, and --reload the files of a service"
    )
