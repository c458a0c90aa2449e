"""The models that one caller may see, in the form of the repository that holds all of them."""

from __future__ import annotations

from collections.abc import Callable

from headrace.repository.repository import ModelRepository, unknown
from headrace.serving.served_model import ServedModel


class VisibleModels:
    """Reads a repository as if it did not have the models that `hides` is true for.

    Errors are those for models that are not there, so that nobody can tell the difference.
    """

    def __init__(
        self, repository: ModelRepository | VisibleModels, hides: Callable[[str], bool]
    ) -> None:
        self._repository = repository
        self._hides = hides

    def is_ready(self, model: ServedModel) -> bool:
        """As `ModelRepository.is_ready`."""
        return self._repository.is_ready(model)

    def trouble(self, model: ServedModel) -> str:
        """As `ModelRepository.trouble`."""
        return self._repository.trouble(model)

    def get(self, name: str, version: str | None = None) -> ServedModel:
        """As `ModelRepository.get`."""
        if self._hides(name):
            raise unknown(name)
        return self._repository.get(name, version)

    def models(self) -> list[ServedModel]:
        """As `ModelRepository.models`."""
        return [model for model in self._repository.models() if not self._hides(model.name)]

    def answering(self) -> list[ServedModel]:
        """As `ModelRepository.answering`."""
        return [model for model in self._repository.answering() if not self._hides(model.name)]

    def versions(self, name: str) -> list[str]:
        """As `ModelRepository.versions`."""
        return [] if self._hides(name) else self._repository.versions(name)
