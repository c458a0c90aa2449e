"""The composition root: the only file that names concrete classes and orders start and stop.

Start: bind every port, answer live, load, be ready. Stop: not ready, finish what is in flight,
close the listeners, stop the workers.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import orjson
from starlette.routing import Route

from headrace import garbage, platform_table
from headrace.adapters.adapter import Adapter
from headrace.adapters.agent_info import AgentInfo
from headrace.adapters.chat_completions import ChatCompletions
from headrace.adapters.mlflow_scoring import MLflowScoring
from headrace.adapters.open_inference import OpenInference
from headrace.adapters.predict_v1 import FurtherPredictV1, PredictV1
from headrace.adapters.raw import Raw
from headrace.adapters.responses import Responses
from headrace.adapters.sagemaker import SageMaker
from headrace.admin.control import HEALTH_PATHS, admin_app
from headrace.admin.metrics import MetricsApp
from headrace.admin.mlflow_webhook import mlflow_webhook_routes, read_secret
from headrace.admin.mlserver_metrics import DEFAULT_PREFIX, MLServerCollector
from headrace.admin.observed import Observed
from headrace.admin.rollout_metrics import RolloutCollector
from headrace.admin.sagemaker_routes import sagemaker_routes
from headrace.dataplane import Calls, DataPlane, RunnerCalls
from headrace.dataplane.hosting import Hosting, find_hosted
from headrace.dataplane.observers.access_log import AccessLog, RefusalLog
from headrace.dataplane.observers.call_counters import MetricsObserver
from headrace.dataplane.observers.foreign_pages import ForeignPages
from headrace.dataplane.observers.mlserver_counters import MLServerCounters
from headrace.dataplane.observers.observer import Observer
from headrace.dataplane.observers.rollout_observer import RolloutObserver
from headrace.dataplane.observers.shadow import Shadows
from headrace.environments.environments import Environments
from headrace.errors import ConfigurationError, ShuttingDown
from headrace.executors import processors, thread_counts
from headrace.executors.early_worker import EarlyWorker
from headrace.executors.placement import Placement
from headrace.executors.runner_answers import Answered
from headrace.executors.worker_program import server_program
from headrace.http.app import App
from headrace.http.cors import with_cors
from headrace.http.inference import InferenceRoutes
from headrace.http.listener import Listener
from headrace.http.refusals import Refusals
from headrace.http.router import Router
from headrace.observability.service_manager import ServiceManager
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
from headrace.sockets import bind, is_loopback
from headrace.sources import artifacts
from headrace.sources.hosted_source import HostedSource
from headrace.sources.model_registry import Registry
from headrace.sources.supply import Supply

if TYPE_CHECKING:
    from headrace.grpc.grpc_listener import GrpcListener

logger = logging.getLogger("headrace")

# The protocols served over HTTP; if two declare the same path, the first one answers it.
PROTOCOLS: tuple[Adapter, ...] = (
    *(OpenInference(), MLflowScoring(), Raw(), PredictV1()),
    *(ChatCompletions(), Responses(), AgentInfo()),
)
# Seconds for which failed loads are retried before a server with nothing to serve gives up.
START_PATIENCE = 10.0
# Exit status when requests were still running at the end of the drain.
INCOMPLETE_DRAIN = 3
# Seconds that refusing those requests may then take.
LAST_ANSWERS = 1.0


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
        ConfigurationError, OSError: models are watched, and cannot be read.
    """

    def __init__(
        self, settings: ServerSettings, supply: Supply, first: EarlyWorker | None = None
    ) -> None:
        self._settings = settings
        models = supply.models
        self._models = [model for model in models if model.follow is None]
        self._first = first or EarlyWorker(server_program(settings, models))
        self._placement = Placement(settings, Environments(settings), self._first, self._ask)
        hosted = HostedSource(os.environ)
        loader = Loader(settings, self._placement)
        self.repository = ModelRepository(
            loader,
            find_hosted(hosted, supply.find),
        )
        followed = [model for model in models if model.follow is not None]
        self._observes_rollouts = False
        self.calls = Calls(observers(settings))
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
            self.repository.get, self.calls, lambda error: row(error).status
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
        limit = settings.max_body_size
        inference = InferenceRoutes(self.dataplane, self.calls, router, limit)
        more = self._more_routes(hosted, loads)
        admin = admin_app(
            self.dataplane, self.calls, router, self.refusals, inference, self.metrics, more
        )
        self.http = with_cors(App(router, inference, admin), settings.cors_settings)

    def _more_routes(self, hosted: HostedSource, loads: RequestedLoads) -> list[Route]:
        """Routes that only some platforms and settings ask for."""
        settings = self._settings
        more: list[Route] = []
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
        artifacts.sweep()
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


class Server:
    """One front process: an application, its listeners, and the signals that end it.

    `first` is the worker that was started before.
    """

    def __init__(
        self, settings: ServerSettings, supply: Supply, first: EarlyWorker | None = None
    ) -> None:
        self._settings = settings
        self._application = Application(settings, supply, first)
        is_local = is_loopback(settings.host)
        self._application.calls.observe(ForeignPages(settings, is_local))
        self._limit_threads()
        self._manager = ServiceManager(os.environ)
        self._watchdog: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self._listeners: list[Listener | GrpcListener] = []

    def _limit_threads(self) -> None:
        """Let models inside the server compute with the processors that it may use, and no more.

        The workers have their share by now; what they add to the environment comes first there.
        """
        usable = processors.usable()
        os.environ.update(thread_counts.variables(os.environ, usable, processors.installed()))

    async def run(self) -> int:
        """Serve until a signal; returns the exit status.

        Raises:
            ConfigurationError: a port cannot be bound; nothing was loaded.
        """
        self._handle_signals()
        # Python's own choice, with the processors that may be used in the place of all.
        threads = ThreadPoolExecutor(min(32, processors.usable() + 4), "headrace")
        asyncio.get_running_loop().set_default_executor(threads)
        await self._listen()
        loading = asyncio.create_task(self._load())
        stopping = asyncio.create_task(self._stop.wait())
        await asyncio.wait([loading, stopping], return_when=asyncio.FIRST_COMPLETED)
        if not loading.done():
            loading.cancel()
            await asyncio.wait([loading])
        elif loading.result():
            await stopping
        else:
            logger.error("no model could be loaded, giving up")
            await self._close()
            return 1
        return await self._drain()

    async def _listen(self) -> None:
        settings = self._settings
        http = _bind(settings.host, settings.http_port, "--http-port")
        self._addresses = {"http": f"http://{_address(settings.host, http.getsockname()[1])}"}
        application = self._application
        apps: list[tuple[Any, socket.socket]] = []
        if application.metrics is not None:
            metrics = _bind(settings.host, settings.metrics_port, "--metrics-port")
            page = Observed(
                application.metrics,
                application.metrics.path,
                application.calls,
                application.refusals,
            )
            apps.append((page, metrics))
            address = _address(settings.host, metrics.getsockname()[1])
            self._addresses["metrics"] = f"http://{address}{application.metrics.path}"
        apps.append((application.http, http))
        # Bound for a moment, to report a port that is taken before anything answers.
        _bind(settings.host, settings.grpc_port, "--grpc-port").close()
        for app, sock in apps:
            refuse = application.refusals.refuse
            self._listeners.append(await Listener.start(app, [sock], settings, refuse))
        # Live by now, and answering while grpc is imported.
        grpc_listener = await asyncio.to_thread(_grpc_listener)
        grpc = await grpc_listener.start(application.dataplane, application.calls, settings)
        self._listeners.append(grpc)
        self._addresses["grpc"] = _address(settings.host, grpc.port)
        logger.info("listening on %s", self._addresses["http"])

    async def _load(self) -> bool:
        """Load all models; False if there are some and none could be loaded."""
        if not await self._application.load():
            return False
        garbage.spare_what_is_alive()
        garbage.give_back_large_buffers()
        if missing := self._application.dataplane.not_ready():
            logger.error("not ready, these models failed: %s", ", ".join(sorted(missing)))
        self._announce()
        return True

    def _announce(self) -> None:
        """Announce the addresses, to people and to scripts."""
        addresses = self._addresses
        metrics = f", metrics at {addresses['metrics']}" if "metrics" in addresses else ""
        line = f"headrace serves at {addresses['http']}, gRPC at {addresses['grpc']}{metrics}"
        try:
            print(line, flush=True)
        except OSError as exc:
            # This harms no caller. What is left in the buffer must not fail again at exit.
            logger.warning("standard output: %s", exc.strerror)
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if self._settings.ready_fd is not None:
            try:
                os.write(self._settings.ready_fd, orjson.dumps(addresses) + b"\n")
                os.close(self._settings.ready_fd)
            except (OSError, OverflowError) as exc:
                logger.warning("--ready-fd %d: %s", self._settings.ready_fd, exc)
        self._manager.ready(line)
        if self._manager.watchdog_interval is not None:
            self._watchdog = asyncio.create_task(self._show_life(self._manager.watchdog_interval))

    async def _show_life(self, interval: float) -> None:
        """Feed the watchdog for as long as the event loop runs, and so answers."""
        while True:
            self._manager.alive()
            await asyncio.sleep(interval)

    async def _drain(self) -> int:
        """Finish what is in flight, then stop in order."""
        settings = self._settings
        logger.info("draining")
        self._manager.stopping()
        self._application.drain()
        for listener in self._listeners:
            listener.announce_close = True
        await asyncio.sleep(settings.drain_delay)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + settings.drain_timeout
        # Where requests keep coming there is always one in flight. The last of them get the rest of
        # the time.
        await _finish(self._listeners, loop.time() + settings.drain_timeout / 2)
        for listener in self._listeners:
            listener.close_listeners()
        await asyncio.gather(*(each.shut_down_connections() for each in self._listeners))
        # What was accepted before the listeners closed is served too.
        left = await _finish(self._listeners, deadline)
        if left:
            await self._abandon()
        left += await _flush(self._listeners, deadline)
        await self._close()
        if left:
            logger.error("%d requests did not finish within --drain-timeout", left)
        return INCOMPLETE_DRAIN if left else 0

    async def _abandon(self) -> None:
        """Refuse the requests that are still in flight."""
        error = ShuttingDown("the server is stopping, and --drain-timeout is over")
        for model in self._application.repository.models():
            model.abandon(error)
        await _finish(self._listeners, asyncio.get_running_loop().time() + LAST_ANSWERS)

    async def _close(self) -> None:
        for listener in self._listeners:
            await listener.stop()
        await self._application.close()
        if self._watchdog is not None:
            self._watchdog.cancel()

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)
        # A terminal is closed, unless somebody has it ignored, as nohup(1) does.
        if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
            loop.add_signal_handler(signal.SIGHUP, self._stop.set)

    def _on_signal(self) -> None:
        if self._stop.is_set():
            # Asked twice: exit at once; the kernel ends the workers with this process.
            os._exit(1)
        self._stop.set()


async def _finish(listeners: list[Listener | GrpcListener], deadline: float) -> int:
    """Wait until no request is in flight; returns how many are left at the deadline.

    A request may continue as another task than it began, so they are counted again each time.
    """
    loop = asyncio.get_running_loop()
    while tasks := [task for listener in listeners for task in listener.in_flight()]:
        remaining = deadline - loop.time()
        if remaining <= 0:
            return sum(not task.done() for task in tasks)
        await asyncio.wait(tasks, timeout=remaining)
    return 0


async def _flush(listeners: list[Listener | GrpcListener], deadline: float) -> int:
    """Wait until every answer has been sent; returns how many are left at the deadline."""
    return sum([await listener.flush(deadline) for listener in listeners])


def _grpc_listener() -> type[GrpcListener]:
    with garbage.sparing_imports():
        from headrace.grpc.grpc_listener import GrpcListener

    return GrpcListener


def _bind(host: str, port: int, flag: str) -> socket.socket:
    try:
        return bind(host, port)
    except ConfigurationError as exc:
        cause = exc.__cause__
        # A port that is taken is the port's fault; an address that does not exist is not.
        if isinstance(cause, (socket.gaierror, UnicodeError)) or (
            isinstance(cause, OSError) and cause.errno == errno.EADDRNOTAVAIL
        ):
            flag = "--host"
        raise ConfigurationError(f"{exc.message} ({flag})") from exc


def _address(host: str, port: int) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
