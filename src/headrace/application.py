"""The composition root: the only file that names the concrete classes of what is served."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading

from headrace import platform_table
from headrace.access import credentials
from headrace.adapters.adapter import Adapter
from headrace.adapters.agent_info import AgentInfo
from headrace.adapters.chat_completions import ChatCompletions
from headrace.adapters.mlflow_scoring import MLflowScoring
from headrace.adapters.open_inference import OpenInference
from headrace.adapters.predict_v1 import FurtherPredictV1, PredictV1
from headrace.adapters.raw import Raw
from headrace.adapters.responses import Responses
from headrace.adapters.sagemaker import SageMaker
from headrace.admin.admin_route import AdminRoute
from headrace.admin.control import HEALTH_PATHS, admin_app
from headrace.admin.metrics import MetricsApp
from headrace.admin.mlflow_webhook import mlflow_webhook_routes, read_secret
from headrace.admin.mlserver_metrics import DEFAULT_PREFIX, MLServerCollector
from headrace.admin.rollout_metrics import RolloutCollector
from headrace.admin.sagemaker_routes import sagemaker_routes
from headrace.dataplane import Calls, DataPlane, RunnerCalls
from headrace.dataplane.hosting import Hosting, find_hosted
from headrace.dataplane.observers.access_log import AccessLog, RefusalLog
from headrace.dataplane.observers.call_counters import MetricsObserver
from headrace.dataplane.observers.gate import Gate
from headrace.dataplane.observers.mlserver_counters import MLServerCounters
from headrace.dataplane.observers.observer import Observer
from headrace.dataplane.observers.rollout_observer import RolloutObserver
from headrace.dataplane.observers.shadow import Shadows
from headrace.decoding.decoder import Decoder
from headrace.environments.environments import Environments
from headrace.executors import worker_folder
from headrace.executors.early_worker import EarlyWorker
from headrace.executors.placement import Placement
from headrace.executors.runner_answers import Answered
from headrace.executors.worker_program import server_program
from headrace.http.app import App
from headrace.http.cors import with_cors
from headrace.http.inference import InferenceRoutes
from headrace.http.refusals import Refusals
from headrace.http.router import Router
from headrace.protocol.error_table import row
from headrace.protocol.messages import InferenceRequest, InferenceResponse
from headrace.protocol.open_inference.counts import Counts
from headrace.repository.follower import Follower
from headrace.repository.loading import Loader
from headrace.repository.reloading import Reloader
from headrace.repository.repeated_loads import RepeatedLoads
from headrace.repository.repository import ModelRepository
from headrace.repository.requested_loads import RequestedLoads
from headrace.repository.shadowing import Shadowing
from headrace.repository.watching import Watcher
from headrace.serving.served_model import ServedModel
from headrace.settings import ServerSettings
from headrace.sources import artifacts
from headrace.sources.hosted_source import HostedSource
from headrace.sources.model_registry import Registry
from headrace.sources.supply import Supply

logger = logging.getLogger("headrace")

# The protocols served over HTTP; if two declare the same path, the first one answers it.
PROTOCOLS: tuple[Adapter, ...] = (
    *(OpenInference(), MLflowScoring(), Raw(), PredictV1()),
    *(ChatCompletions(), Responses(), AgentInfo()),
)
# Seconds for which failed loads are retried before a server with nothing to serve gives up.
START_PATIENCE = 10.0


def observers(settings: ServerSettings) -> tuple[Observer, ...]:
    """The observers that are enabled, in the order in which they see each call."""
    wanted = sys.stderr.isatty() if settings.access_log is None else settings.access_log
    return (MetricsObserver(), AccessLog() if wanted else RefusalLog())


def protocols(settings: ServerSettings) -> tuple[Adapter, ...]:
    """The protocols of these settings; those of a platform first, which may name any path."""
    route = settings.predict_route
    further: tuple[Adapter, ...] = (FurtherPredictV1(route),) if route else ()
    names_models = platform_table.named(settings.platform).names_models
    hosted: tuple[Adapter, ...] = (SageMaker(),) if names_models else ()
    counts = Counts.of(settings)
    own = (OpenInference(counts) if type(each) is OpenInference else each for each in PROTOCOLS)
    return (*further, *hosted, *own)


class Application:
    """Everything but listeners and signals: the models, and the ASGI application that calls them.

    `first` is the worker that was started before.

    Raises:
        ConfigurationError, OSError: models are watched, and cannot be read; or keys cannot.
    """

    def __init__(
        self, settings: ServerSettings, supply: Supply, first: EarlyWorker | None = None
    ) -> None:
        self._settings = settings
        models = supply.models
        self._models = [model for model in models if model.follow is None]
        self._first = first or EarlyWorker(server_program(settings, models))
        self._placement = Placement(settings, Environments(settings), self._first, self._ask)
        hosted = HostedSource(os.environ, settings.trusted_folders)
        loader = Loader(settings, self._placement)
        self.repository = ModelRepository(
            loader,
            find_hosted(hosted, supply.find),
        )
        followed = [model for model in models if model.follow is not None]
        self._observes_rollouts = False
        self.calls = Calls(observers(settings))
        self._accepted = credentials.accepted(settings)
        if self._accepted:
            self.calls.observe(Gate(credentials.finder(self._accepted)))
        self._shadows = Shadows(self.calls.observe)
        self._shadowing = Shadowing(loader, self._shadows, settings.follow_incompatible)
        self._follower = Follower(
            *(self.repository, settings, followed, Registry()),
            want_shadow=self._shadowing.want,
            divides=self._observe_rollouts,
        )
        platform = platform_table.named(settings.platform)
        loads = RequestedLoads(self.repository, self._follower)
        repeated = RepeatedLoads(self.repository, loads) if platform.repeats_loads else None
        self.dataplane = DataPlane(
            *(self.repository, settings, repeated or loads, self._follower),
            self._shadowing.loaded,
        )
        self._lookers = self._looking_at(supply)
        self._looking: list[asyncio.Task[None]] = []
        self._runner_calls = RunnerCalls(
            self.repository.get, self.calls, lambda error: row(error).status, settings
        )
        router = Router(protocols(settings))
        path = settings.metrics_endpoint
        self.metrics = MetricsApp(self.dataplane, self._placement, path) if path else None
        if self.metrics is not None:
            self.metrics.add(RolloutCollector(self._follower.traffic))
        self._counts_as_mlserver = False
        if settings.metrics_rest_server_prefix:
            self._count_as_mlserver()
        elif settings.metrics_rest_server_prefix is None:
            self.dataplane.watch(self._on_ready)
        self.refusals = Refusals(self.calls, router)
        self._decoder = Decoder()
        inference = InferenceRoutes(
            self.dataplane, self.calls, router, self._decoder, settings.max_body_size
        )
        more = self._more_routes(hosted, loads)
        admin = admin_app(
            self.dataplane, self.calls, router, self.refusals, inference, self.metrics, more
        )
        self.http = with_cors(App(router, inference, admin), settings.cors_settings)

    def _more_routes(self, hosted: HostedSource, loads: RequestedLoads) -> list[AdminRoute]:
        """Routes that only some platforms and settings ask for."""
        settings = self._settings
        more: list[AdminRoute] = []
        if platform_table.named(settings.platform).names_models:
            hosting = Hosting(
                *(self.repository, hosted, lambda: not self.dataplane.draining),
                loads=loads,
            )
            more = sagemaker_routes(hosting)
        if settings.mlflow_webhook_secret_file is not None:
            secret = read_secret(settings.mlflow_webhook_secret_file)
            more += mlflow_webhook_routes(secret, self._follower.poll_registered)
        return more

    def _looking_at(self, supply: Supply) -> list[Reloader | Watcher]:
        """What looks at files while they are served."""
        lookers: list[Reloader | Watcher] = []
        if (service := supply.reloaded) is not None:
            lookers.append(
                Reloader(
                    *(self.repository, service.folder),
                    lambda: [model.settings for model in service.found()],
                )
            )
        if supply.look is not None:
            watcher = Watcher(self.repository, supply.look, self._settings.follow_interval)
            watcher.begin()
            lookers.append(watcher)
        return lookers

    def _ask(
        self, name: str, request: InferenceRequest, timeout: float | None, answered: Answered
    ) -> asyncio.Future[InferenceResponse]:
        # Workers are placed before there is anything to ask.
        return self._runner_calls.ask(name, request, timeout, answered)

    def _on_ready(self, model: ServedModel) -> None:
        if model.model_metadata.from_mlserver:
            self._count_as_mlserver()

    def _observe_rollouts(self) -> None:
        """Count what the rules for canaries need, from now on; until then, nobody pays for it."""
        if not self._observes_rollouts:
            self._observes_rollouts = True
            self.calls.observe(RolloutObserver())

    def _count_as_mlserver(self) -> None:
        """Count what MLServer counts, from now on; until then, nobody pays for it."""
        if self._counts_as_mlserver or self.metrics is None:
            return
        self._counts_as_mlserver = True
        settings = self._settings
        probed = (self.metrics.path, settings.health_route, *HEALTH_PATHS)
        counters = MLServerCounters(frozenset(probed))
        self.calls.observe(counters)
        prefix = settings.metrics_rest_server_prefix or DEFAULT_PREFIX
        has_workers = settings.parallel_workers > 0
        self.metrics.add(MLServerCollector(counters, prefix, has_workers))

    async def load(self) -> bool:
        """Load all models; False if there are some and none could be loaded."""
        # From now on: models may take long to load.
        self._looking += [asyncio.create_task(each.run()) for each in self._accepted]
        # Aside: there may be gigabytes, and nobody has to wait until they are gone.
        threading.Thread(target=_sweep, name="sweep", daemon=True).start()
        if self._settings.load_models_at_startup:
            await asyncio.gather(self.repository.load_all(self._models), self._follower.start())
        else:
            self.repository.add_unloaded(self._models)
            self._follower.add_unloaded()
        self.dataplane.loaded = True
        # All that is to be placed at the start is placed.
        self._first.close()
        # By state, not readiness: another model may just have taken the worker down with it.
        missing = self.dataplane.not_ready()
        if missing and not await self.repository.any_ready(START_PATIENCE):
            return False
        self._looking += [asyncio.create_task(each.run()) for each in self._lookers]
        return True

    def drain(self) -> None:
        """Report that the server is not ready, and change nothing any more."""
        self.dataplane.draining = True
        for task in self._looking:
            task.cancel()

    async def close(self) -> None:
        """Stop the workers and everything else."""
        self.drain()
        await self._follower.close()
        await self._shadowing.close()
        self._shadows.close()
        await self.repository.close()
        await self._decoder.close()


def _sweep() -> None:
    """Remove what servers left behind that were killed."""
    artifacts.sweep()
    worker_folder.sweep()
