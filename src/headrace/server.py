"""One front process: its listeners, its signals, and the order in which it starts and stops.

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

from headrace import garbage
from headrace.access.needs import READ_ALL
from headrace.admin.certificate_metrics import CertificateCollector
from headrace.admin.observed import Observed
from headrace.application import Application
from headrace.connection_limit import ConnectionLimit
from headrace.dataplane.observers.foreign_pages import ForeignPages
from headrace.errors import ConfigurationError, ShuttingDown, listing
from headrace.executors import confinement, descriptors, processors, thread_counts
from headrace.executors.early_worker import EarlyWorker
from headrace.http.listener import Listener
from headrace.observability.service_manager import ServiceManager
from headrace.receive_budget import ReceiveBudget
from headrace.settings import ServerSettings
from headrace.sockets import bind, is_loopback
from headrace.sources.supply import Supply
from headrace.tls.certificates import certificates

if TYPE_CHECKING:
    from headrace.grpc.grpc_listener import GrpcListener

logger = logging.getLogger("headrace")

# Connections to the port for metrics, whatever other ports have.
METRICS_CONNECTIONS = 32
# Exit status when requests were still running at the end of the drain.
INCOMPLETE_DRAIN = 3
# Seconds that refusing those requests may then take.
LAST_ANSWERS = 1.0
# The most digits of integers that are read, and the fewest that Python allows to be set: the time
# to read one grows with the square of its digits, and no datatype holds any of more than twenty.
LONGEST_INTEGER = 640


class Server:
    """One front process: an application, its listeners, and the signals that end it.

    `first` is the worker that was started before.
    """

    def __init__(
        self, settings: ServerSettings, supply: Supply, first: EarlyWorker | None = None
    ) -> None:
        self._settings = settings
        self._certificates = certificates(settings)
        self._application = Application(settings, supply, first)
        if self._certificates is not None and self._application.metrics is not None:
            self._application.metrics.add(CertificateCollector(self._certificates))
        is_local = is_loopback(settings.host)
        self._application.calls.observe(ForeignPages(settings, is_local))
        self._limit_threads()
        self._manager = ServiceManager(os.environ)
        self._watchdog: asyncio.Task[None] | None = None
        self._renewal: asyncio.Task[None] | None = None
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
        sys.set_int_max_str_digits(LONGEST_INTEGER)
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
        scheme = "http" if self._certificates is None else "https"
        self._addresses = {"http": f"{scheme}://{_address(settings.host, http.getsockname()[1])}"}
        application = self._application
        apps: list[tuple[Any, socket.socket]] = []
        if application.metrics is not None:
            metrics = _bind(settings.host, settings.metrics_port, "--metrics-port")
            page = Observed(
                application.metrics,
                application.metrics.path,
                READ_ALL,
                application.calls,
                application.refusals,
            )
            apps.append((page, metrics))
            address = _address(settings.host, metrics.getsockname()[1])
            self._addresses["metrics"] = f"{scheme}://{address}{application.metrics.path}"
        apps.append((application.http, http))
        # Bound for a moment, to report a port that is taken before anything answers.
        _bind(settings.host, settings.grpc_port, "--grpc-port").close()
        # One request of the largest size has to fit.
        budget = ReceiveBudget(max(settings.max_receive_bytes, settings.max_body_size))
        most = descriptors.for_connections(settings)
        # grpcio counts its connections by itself.
        limit = ConnectionLimit(most if settings.native_grpc else max(1, most // 2))
        for app, sock in apps:
            refuse = application.refusals.refuse
            own = limit if app is application.http else ConnectionLimit(METRICS_CONNECTIONS)
            listener = await Listener.start(
                *(app, [sock], settings, refuse),
                budget=budget,
                certificates=self._certificates,
                limit=own,
            )
            self._listeners.append(listener)
        # Live by now, and answering while grpc is imported.
        grpc_listener = await asyncio.to_thread(_grpc_listener)
        grpc = await grpc_listener.start(
            *(application.dataplane, application.calls, settings),
            *(budget, self._certificates, limit),
        )
        if self._certificates is not None:
            self._renewal = asyncio.create_task(self._certificates.follow())
        self._listeners.append(grpc)
        self._addresses["grpc"] = _address(settings.host, grpc.port)
        logger.info("listening on %s", self._addresses["http"])
        knows_callers = settings.asks_for_keys or settings.ssl_ca_certs is not None
        if not (knows_callers or is_loopback(settings.host)):
            logger.warning(
                "whoever reaches this server can call its models: --api-keys-file asks for keys"
            )

        if names := confinement.unset(settings, os.environ):
            logger.warning(
                "--worker-env: not set here, so workers do not get it: %s", listing(names)
            )

    async def _load(self) -> bool:
        """Load all models; False if there are some and none could be loaded."""
        if not await self._application.load():
            return False
        garbage.spare_what_is_alive()
        garbage.give_back_large_buffers()
        if missing := self._application.dataplane.not_ready():
            logger.error("not ready, these models failed: %s", ", ".join(sorted(missing)))
        self._warn_of_code()
        self._announce()
        return True

    def _warn_of_code(self) -> None:
        """Name the models that may run code, where others than this machine may ask for them."""
        models = self._application.repository.models()
        if names := sorted({model.name for model in models if model.why_code}):
            logger.warning(
                "%s is not a loopback address, and these models are code or pickles: %s; --trust "
                "says what is opened",
                *(self._settings.host, listing(names)),
            )

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
        for task in (self._watchdog, self._renewal):
            if task is not None:
                task.cancel()

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)
        # A terminal is closed, unless somebody has it ignored, as nohup(1) does.
        if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
            loop.add_signal_handler(signal.SIGHUP, self._stop.set)

    def _on_signal(self) -> None:
        if self._stop.is_set():
            # Asked twice: exit at once. The kernel ends the workers with this process, and the
            # keeper what they have started.
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
