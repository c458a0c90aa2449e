"""`headrace serve MODEL`: every flag is one field of `ServerSettings`."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import Field, fields, replace
from typing import TYPE_CHECKING, Any, get_type_hints

from headrace import garbage
from headrace.cli import conf, dotenv
from headrace.cli.parser import HostOrHelp
from headrace.errors import ConfigurationError, shorten
from headrace.executors.daemon_thread import DaemonThread
from headrace.settings import ServerSettings
from headrace.sources.variables import ARGUMENTS

if TYPE_CHECKING:
    from headrace.cli.conf import Conf
    from headrace.configuration import Resolved
    from headrace.sources.source import Source
    from headrace.sources.supply import Supply

logger = logging.getLogger("headrace")

# Flags of `mlflow models serve`, and the settings that they stand for.
FLAGS_OF_MLFLOW = {
    "http_port": ("-p", "--port"),
    "parallel_workers": ("-w", "--workers"),
    "infer_timeout": ("-t", "--timeout"),
}
# Flags of others that are accepted and need no setting here, and why.
NOT_NEEDED = {
    "--install-mlflow": "an environment gets what the model states",
    "--enable-mlserver": "MLServer's protocol is served in any case, below /v2",
}
# Seconds that the threads of models may take to end once the server has ended.
LAST_THREADS = 1.0


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `serve` and its alias `start`."""
    parser = commands.add_parser(
        "serve", aliases=["start"], help="serve a model or a folder of models", add_help=False
    )
    add_arguments(parser)
    parser.add_argument(
        "-h", dest="host", nargs="?", action=HostOrHelp, metavar="ADDRESS", help=argparse.SUPPRESS
    )
    parser.add_argument("--help", action="help", help="show this text; so does -h alone")
    parser.set_defaults(run=run)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add MODEL, the flags that belong to it, and one flag per server setting."""
    parser.add_argument(
        "model",
        metavar="MODEL",
        nargs="?",
        help="an MLflow model folder or URI (runs:/, models:/, s3://...), or a folder with "
        "model-settings.json in it or below, or a stored model (NAME or NAME:VERSION), or a "
        "service (service.py:svc); the current folder by default",
    )
    parser.add_argument(
        "-m", "--model-uri", metavar="MODEL", help="the same as MODEL, as in `mlflow models serve`"
    )
    parser.add_argument("--name", help="name to serve a single model under")
    parser.add_argument(
        "--plugin",
        metavar="FILE",
        help="plugin that loads MODEL and scores with it: a file, or an import path",
    )
    parser.add_argument("--plugin-class", help="class of the plugin (default Plugin)")
    parser.add_argument(
        "--packages", help="packages a single model needs, separated by commas: a==1,b>=2,<3"
    )
    parser.add_argument(
        "--conf", metavar="FILE", help="YAML file of these arguments and of server settings"
    )
    _add_flags_without_settings(parser)
    hints = get_type_hints(ServerSettings)
    for field in fields(ServerSettings):
        flag = "--" + field.name.replace("_", "-")
        if hints[field.name] in (bool, bool | None):
            switch = argparse.BooleanOptionalAction
            parser.add_argument(flag, help=_help(field), default=None, action=switch)
            continue
        # The value is checked with those from variables and files, by the same words.
        choices = field.metadata.get("choices")
        metavar = f"{{{','.join(choices)}}}" if choices else None
        more = FLAGS_OF_MLFLOW.get(field.name, ())
        parser.add_argument(*more, flag, dest=field.name, help=_help(field), metavar=metavar)


def _add_flags_without_settings(parser: argparse.ArgumentParser) -> None:
    """Add flags of `mlflow models serve` that --help need not show."""
    parser.add_argument(
        "--no-conda",
        action="store_const",
        const="local",
        dest="env_manager",
        help=argparse.SUPPRESS,
    )
    for flag, why in NOT_NEEDED.items():
        note = f"{flag} is accepted and has no effect: {why}"
        parser.add_argument(
            flag, action="append_const", const=note, dest="notes", help=argparse.SUPPRESS
        )


def run(options: argparse.Namespace) -> int:
    """Read the settings, find the models, serve until a signal."""
    return start(options, conf_of(options))


def conf_of(options: argparse.Namespace) -> Conf:
    """The values of the file that `--conf` or its variable names.

    Raises:
        ConfigurationError: as `conf.read`.
    """
    return conf.read(options.conf or dotenv.environment().get("HEADRACE_CONF") or None)


def settled(options: argparse.Namespace, given: Conf) -> tuple[Resolved, Source]:
    """The server's settings and the source of the models, from everything that was given.

    Raises:
        ConfigurationError: a value is wrong, or lacks its counterpart.
    """
    from headrace import configuration
    from headrace.sources.discovery import open_source, settings_folder
    from headrace.sources.plugin_argument import plugin_argument

    environ = dotenv.environment()
    flags = {name: value for name, value in vars(options).items() if value is not None}
    arguments = {**given.arguments, **_from_variables(environ), **flags}
    if "model_uri" in arguments:
        if "model" in flags:
            raise ConfigurationError(
                f"MODEL is '{shorten(flags['model'])}', and -m names another; give one of them"
            )
        arguments["model"] = arguments["model_uri"]
    if arguments.get("model") == "":
        raise ConfigurationError("MODEL is empty; was a variable of the shell not set?")
    plugin = None
    if "plugin" in arguments:
        if "model" not in arguments:
            raise ConfigurationError("--plugin needs a MODEL to pass to its load_model")
        plugin = plugin_argument(arguments["plugin"], arguments.get("plugin_class"))
    elif "plugin_class" in arguments:
        raise ConfigurationError("--plugin-class needs --plugin, which is missing")
    packages = arguments.get("packages", ())
    packages = conf.packages(packages) if isinstance(packages, str) else packages
    found = configuration.platform(vars(options), environ, given.settings)
    model = configuration.model_argument(arguments.get("model"), environ, found)
    folder = settings_folder(model)
    resolved = configuration.resolve(vars(options), environ, folder, given.settings)
    resolved = replace(resolved, notes=(*resolved.notes, *(vars(options).get("notes") or ())))
    source = open_source(model, arguments.get("name"), environ, plugin, packages)
    source.appears = found.model_appears and model == found.model
    return resolved, source


def _from_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """What is given by variable instead of by a flag that is no server setting."""
    named = {name: environ.get(f"HEADRACE_{name.upper()}") for name in ARGUMENTS}
    return {name: value for name, value in named.items() if value}


def start(options: argparse.Namespace, given: Conf) -> int:
    """Serve what the options name; `given` fills in what they leave out."""
    with garbage.sparing_imports():
        settings, supplied = _supplied(options, given)
        # Imported here so that `headrace --help` does not pay for the server, which comes last: the
        # first worker imports its framework meanwhile.
        from headrace.executors import thread_counts
        from headrace.executors.early_worker import early_worker

        first = early_worker(settings, supplied.models)
        # Otherwise, threads that the server does not need would keep the worker's processor busy.
        os.environ.update({**thread_counts.BLAS_WAITING, **os.environ})
        import asyncio

        from headrace.server import Server

    async def serve() -> int:
        return await Server(settings, supplied, first).run()

    before = threading.enumerate()
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            status = runner.run(serve())
    finally:
        first.close()
    if _still_run(before):
        # A model inside the server hangs.
        logger.error("a model is still running and is abandoned")
        os._exit(status)
    return status


def _supplied(options: argparse.Namespace, given: Conf) -> tuple[ServerSettings, Supply]:
    """The settings of the server and of its models, once it logs as they say."""
    from headrace.observability import json_lines, logs
    from headrace.sources.supply import supply

    resolved, source = settled(options, given)
    settings = resolved.settings
    logs.configure(settings.log_level, settings.log_format, json_lines.dumps)
    for warning in resolved.warnings:
        logger.warning("%s", warning)
    if resolved.found.platform is not None:
        logger.info("%s", _platform(resolved, source.place))
    supplied = supply(source, settings, resolved.origins)
    if not supplied.models:
        once = "found" if settings.watch else "loaded"
        logger.warning("%s; a folder added later is served once it is %s", source.nothing(), once)
    return settings, supplied


def _platform(resolved: Resolved, model: str) -> str:
    """A line about the platform that was found, and what it sets."""
    found = resolved.found
    taken = {origin for _, origin in (*found.given.values(), *found.suits.values())}
    set_by = [
        f"{name} {getattr(resolved.settings, name)} ({origin})"
        for name, origin in resolved.origins.items()
        if name != "platform" and origin in taken
    ]
    return f"platform {found.name} ({found.origin}): MODEL {model}, {', '.join(set_by)}"


def _still_run(before: list[threading.Thread]) -> bool:
    """Whether threads that are not in `before` would keep this process from ending well."""
    deadline = time.monotonic() + LAST_THREADS
    left = [thread for thread in threading.enumerate() if thread not in before]
    # Python would not wait for a model's thread, but native code in it may crash at the exit.
    left = [thread for thread in left if isinstance(thread, DaemonThread) or not thread.daemon]
    for thread in left:
        thread.join(max(0.0, deadline - time.monotonic()))
    return any(thread.is_alive() for thread in left)


def _loop_factory() -> Any:
    if sys.platform == "win32":
        return None
    import uvloop

    return uvloop.new_event_loop


def _help(field: Field[Any]) -> str:
    """What a setting means, its unit, and what applies when it is not set."""
    meaning: str = field.metadata["help"]
    default = field.metadata["unset"] or field.default
    notes = [note for note in [field.metadata["unit"]] if note]
    if default not in (None, "", ()):
        notes.append(f"default {default}")
    return f"{meaning} ({', '.join(notes)})" if notes else meaning
