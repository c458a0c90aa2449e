"""Health, metadata and the index of models, and loading and unloading them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from types import MappingProxyType
from typing import Any

from headrace import __version__
from headrace.dataplane.call import Call
from headrace.dataplane.resolve import Resolver, Speaker
from headrace.dataplane.statistics import model_statistics
from headrace.dataplane.triton_config import model_config
from headrace.dataplane.visible_models import VisibleModels
from headrace.errors import Forbidden, NotFound, ShuttingDown, Unimplemented, shorten
from headrace.protocol.messages import TensorMetadata
from headrace.repository.follower import Follower
from headrace.repository.repeated_loads import RepeatedLoads
from headrace.repository.repository import ModelRepository, not_in_folder, unknown
from headrace.repository.requested_loads import RequestedLoads
from headrace.rollouts.traffic import Traffic
from headrace.serving.served_model import ServedModel, State
from headrace.settings import ServerSettings
from headrace.sockets import is_loopback

EXTENSIONS = [
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "statistics",
]


class DataPlane:
    """Health, metadata and control of the models of a repository, which stays private.

    Errors are `HeadraceError`s; each transport translates their kinds with its own table.
    `loads` is what loads and unloads, if it is not the repository itself. `shadows` are the models
    that no request reaches, by name.
    """

    def __init__(
        self,
        repository: ModelRepository,
        settings: ServerSettings,
        loads: RequestedLoads | RepeatedLoads | None = None,
        follower: Follower | None = None,
        shadows: Mapping[str, ServedModel] = MappingProxyType({}),
    ) -> None:
        self._repository: ModelRepository | VisibleModels = repository
        self._watchers = repository.watchers
        self._hides: Callable[[str], bool] | None = None
        self._follower = follower
        self._shadows = shadows
        self.traffic: Mapping[str, Traffic] = follower.traffic if follower is not None else {}
        self._resolver = Resolver(repository, self.traffic)
        self._loads = loads or repository
        self.settings = settings
        self.draining = False
        self.loaded = False

    def seen_by(self, call: Call | None) -> DataPlane:
        """As it would be if there were no models but those that the caller may see."""
        if call is None or call.hides is None:
            return self
        seen = copy(self)
        seen._hides = call.hides
        seen._repository = VisibleModels(self._repository, call.hides)
        seen._resolver = Resolver(seen._repository, self.traffic)
        return seen

    def is_ready(self) -> bool:
        """Every configured model can answer, and the server is not draining."""
        if self.is_empty and not self.settings.allow_empty:
            return False
        return self.loaded and not self.draining and not self.not_ready()

    @property
    def is_empty(self) -> bool:
        """Whether there is no model at all, loaded or not."""
        return not self._repository.models()

    def not_ready(self) -> dict[str, str]:
        """The models that cannot answer now, each with its reason."""
        return {model.name: self._reason(model) for model in self._unready()}

    def may_recover(self) -> bool:
        """Whether a server that is not ready may become so without anybody doing something."""
        if self.is_empty and self.loaded:
            return self.settings.allow_empty
        return all(model.may_recover for model in self._unready())

    def require_ready(self, name: str, version: str | None = None) -> None:
        """Check that a model can answer now.

        Raises:
            NotFound: no model of that name or version is configured.
            ModelNotReady: it cannot; a ModelUnavailable if it will not by itself.
        """
        model = self._repository.get(name, version)
        if not self._repository.is_ready(model):
            raise model.not_ready(self._reason(model))

    def model_ready(self, name: str, version: str | None = None) -> bool:
        """Whether one model can answer now.

        Raises:
            NotFound: no model of that name or version is configured.
        """
        return self._repository.is_ready(self._repository.get(name, version))

    def server_metadata(self) -> dict[str, Any]:
        """Open Inference Protocol, "Server Metadata"."""
        settings = self.settings
        return {
            "name": settings.server_name,
            "version": settings.server_version or __version__,
            "extensions": list(dict.fromkeys([*EXTENSIONS, *settings.extensions])),
        }

    def model_metadata(self, name: str, version: str | None = None) -> dict[str, Any]:
        """Open Inference Protocol, "Model Metadata".

        Raises:
            NotFound: no model of that name or version is configured.
            ModelNotReady: it is not loaded, so that its inputs are unknown; a ModelUnavailable if
                it will not by itself.
        """
        model = self._repository.get(name, version)
        if not model.is_ready:
            raise model.not_ready(self._reason(model))
        metadata = model.model_metadata
        answer: dict[str, Any] = {
            "name": model.name,
            "versions": self._repository.versions(name),
            "platform": model.settings.platform or metadata.platform,
            "inputs": [_tensor(tensor) for tensor in metadata.inputs],
            "outputs": [_tensor(tensor) for tensor in metadata.outputs],
        }
        if metadata.parameters or metadata.of_mlserver or model.origin:
            answer["parameters"] = {**metadata.parameters, **model.origin}
        return answer

    def statistics(self, name: str | None = None, version: str | None = None) -> dict[str, Any]:
        """What is counted: of one version of a model, of all its versions, or of all models.

        Implements Triton's statistics extension; see `model_statistics`.

        Raises:
            NotFound: no model of that name or version is configured.
        """
        if name is None:
            models = self._repository.models()
        elif version is None:
            self._repository.get(name)
            models = [model for model in self._repository.models() if model.name == name]
        else:
            models = [self._repository.get(name, version)]
        return {"model_stats": [model_statistics(model) for model in models]}

    def triton_config(self, name: str, version: str | None = None) -> dict[str, Any]:
        """What clients of Triton read of a model's configuration; see `model_config`.

        Raises:
            NotFound: no model of that name or version is configured.
        """
        return model_config(self._repository.get(name, version))

    def index(self, ready: bool = False) -> list[dict[str, str]]:
        """Every known model, or every ready one: name, version, state and reason.

        Implements "index" of the model repository extension.
        """
        entries = []
        for model in self._listed():
            can_answer = self._repository.is_ready(model)
            if ready and not can_answer:
                continue
            # A model that can answer may show the state of its next load.
            state, reason = model.state, model.reason
            if not can_answer and state in (State.READY, State.UNAVAILABLE):
                state, reason = State.UNAVAILABLE, self._reason(model)
            entries.append(
                {
                    "name": model.name,
                    "version": model.version or "",
                    "state": str(state),
                    "reason": reason,
                }
            )
        return entries

    def _listed(self) -> list[ServedModel]:
        """All models, and the shadows whose version is not among them."""
        found = self._repository.models()
        known = {(model.name, model.version) for model in found}
        shadows = self.shadows()
        return [*found, *(each for each in shadows if (each.name, each.version) not in known)]

    async def load(self, name: str, parameters: Any = None) -> None:
        """Load a model from disk, or reload it; the previous load answers until then.

        Implements "load" of the model repository extension.

        Raises:
            Forbidden: the operation is switched off.
            Unimplemented: the request came with `parameters`, that is, settings or files.
            NotFound, Conflict, LoadFailed: see `ModelRepository.load`.
        """
        self._require_repository_api()
        if parameters:
            raise Unimplemented(
                "parameters: a model is loaded as its folder describes it; "
                "settings and files in the request are not accepted"
            )
        if self._hides is not None and self._hides(name):
            raise not_in_folder(name)
        await self._loads.load(name)

    async def unload(self, name: str) -> None:
        """Finish the requests of a model and free it.

        Implements "unload" of the model repository extension.

        Raises:
            Forbidden: the operation is switched off.
            NotFound, Conflict: see `ModelRepository.unload`.
        """
        self._require_repository_api()
        if self._hides is not None and self._hides(name):
            raise unknown(name)
        await self._loads.unload(name)

    def rollout(self, name: str) -> dict[str, Any]:
        """The state of a followed model's rollout; see `Follower.rollout`.

        Raises:
            NotFound: no model of that name is followed.
        """
        return self._following(name).rollout(name)

    def decide(self, name: str, decision: str, reason: str) -> dict[str, Any]:
        """Decide about a followed model's canary; returns the state after that.

        Raises:
            Forbidden: the operation is switched off.
            NotFound: no model of that name is followed, or there is no such decision.
            Conflict: the model has no canary.
        """
        self._require_repository_api()
        follower = self._following(name)
        decisions = {
            "promote": follower.promote,
            "hold": follower.hold,
            "rollback": follower.roll_back,
        }
        if decision not in decisions:
            raise NotFound(
                f"'{shorten(decision)}' is no decision about a rollout; there are: "
                f"{', '.join(decisions)}"
            )
        decisions[decision](name, reason or "by request")
        return follower.rollout(name)

    def _following(self, name: str) -> Follower:
        if self._follower is None or (self._hides is not None and self._hides(name)):
            raise NotFound(f"model '{shorten(name)}' is not followed")
        return self._follower

    def _unready(self) -> list[ServedModel]:
        """The models that should be able to answer, and cannot."""
        models = self._repository.models()
        return [model for model in models if model.wanted and not self._repository.is_ready(model)]

    def _reason(self, model: ServedModel) -> str:
        if model.state is State.READY:
            return self._repository.trouble(model)
        return model.why_not_ready()

    def _require_repository_api(self) -> None:
        if not _allows_repository_api(self.settings):
            raise Forbidden(
                "loading and unloading are switched off on this server; "
                "--allow-repository-api switches them on"
            )
        if self.draining:
            raise ShuttingDown("the server is draining")

    def find(
        self, name: str | None, version: str | None, protocol: Speaker, call: Call | None = None
    ) -> ServedModel:
        """The model for a request; see `Resolver.find`. Hot."""
        if call is not None and call.hides is not None:
            return self.seen_by(call)._resolver.find(name, version, protocol, call)
        return self._resolver.find(name, version, protocol, call)

    def find_named(self, name: str, version: str | None, call: Call) -> ServedModel:
        """The model for a request that names one; see `Resolver.get`. Hot."""
        if call.hides is not None:
            return self.seen_by(call)._resolver.get(name, version, call)
        return self._resolver.get(name, version, call)

    def deciding_member(self, name: str | None) -> str:
        """The path of the member of a body that decides on a model's version; "" if none does.

        Without a name, that of any model: it is not known yet which one is meant.
        """
        if name is None:
            paths = (each.deciding_member for each in self.traffic.values())
            return next(filter(None, paths), "")
        traffic = self.traffic.get(name)
        return traffic.deciding_member if traffic is not None else ""

    def get(self, name: str, version: str | None = None) -> ServedModel:
        """The model of that name; without a version, the default one. Hot.

        Raises:
            NotFound: no model of that name or version is configured.
        """
        return self._repository.get(name, version)

    def models(self) -> list[ServedModel]:
        """Every version of every model, sorted by name, oldest version first."""
        return self._repository.models()

    def shadows(self) -> list[ServedModel]:
        """The shadow of each model that has one; no request reaches it."""
        shadows = list(self._shadows.values())
        return shadows if self._hides is None else [s for s in shadows if not self._hides(s.name)]

    def names(self) -> list[str]:
        """The names of all models, sorted."""
        return list(dict.fromkeys(model.name for model in self._repository.models()))

    def versions(self, name: str) -> list[str]:
        """The versions of a model, oldest first."""
        return self._repository.versions(name)

    def answering(self) -> list[ServedModel]:
        """The default version of each model that is ready, the longest known first."""
        return self._repository.answering()

    def watch(self, watcher: Callable[[ServedModel], None]) -> None:
        """Call `watcher` with each model that becomes ready, for information only."""
        self._watchers.append(watcher)

    def is_up(self, model: ServedModel) -> bool:
        """Whether the model is loaded and has a live worker."""
        return self._repository.is_ready(model)


def _allows_repository_api(settings: ServerSettings) -> bool:
    """Whether callers may change what is served; by default, if strangers cannot."""
    if settings.allow_repository_api is not None:
        return settings.allow_repository_api
    return settings.asks_for_keys or is_loopback(settings.host)


def _tensor(tensor: TensorMetadata) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "name": tensor.name,
        "datatype": tensor.datatype,
        "shape": tensor.shape,
    }
    if tensor.parameters:
        answer["parameters"] = tensor.parameters
    return answer
