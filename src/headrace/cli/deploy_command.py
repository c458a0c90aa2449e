"""`headrace deploy TARGET SOURCE`: the manifest that runs SOURCE somewhere else."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.cli import image_sources
from headrace.cli.stored_items import Parsers, guarded
from headrace.errors import ConfigurationError

if TYPE_CHECKING:
    from headrace.deploy.workload import Options, Workload

TARGETS = {
    "kserve": "an InferenceService of KServe, with the runtime that it needs",
    "seldon": "a Server and a Model of Seldon Core 2",
    "ray": "a RayService of KubeRay",
    "helm": "a Helm chart, written to a folder",
    "compose": "a Compose file with Prometheus and Grafana",
    "systemd": "a unit file of systemd",
}
SHARED = {"kserve": ("--runtime", "ClusterServingRuntime"), "seldon": ("--server", "Server")}
ON_KUBERNETES = ("kserve", "seldon", "ray", "helm")


def add_command(commands: Parsers[argparse.ArgumentParser]) -> None:
    """Add `deploy` with its targets."""
    parser = commands.add_parser(
        "deploy", help="print a manifest for KServe, Seldon, Ray, Compose, Helm or systemd"
    )
    targets = parser.add_subparsers(dest="target", metavar="TARGET", required=True)
    for name, text in TARGETS.items():
        target = targets.add_parser(name, help=text, description=f"Print {text}.")
        _add_arguments(target, name)
        target.set_defaults(run=guarded(run))


def _add_arguments(parser: argparse.ArgumentParser, target: str) -> None:
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="what `headrace serve` would serve: a folder, a URI, a stored model, a bundle, or a "
        "service",
    )
    parser.add_argument("--name", help="name of what is made (default: one from SOURCE's name)")
    parser.add_argument(
        "--env",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="variable of the server, such as HEADRACE_LOG_LEVEL=debug; may be repeated",
    )
    parser.add_argument(
        "--cpu", metavar="CORES", help="cores to reserve (default: the number of workers)"
    )
    parser.add_argument(
        "--memory",
        metavar="AMOUNT",
        help="memory to reserve, such as 4Gi (default: a guess from the size of the models)",
    )
    if target == "systemd":
        parser.add_argument(
            "--program",
            metavar="FILE",
            help="path of `headrace` on the machine (default: where it is on this one)",
        )
    else:
        _add_image_arguments(parser, target)
    if target in ON_KUBERNETES:
        _add_replica_arguments(parser)
    if target == "helm":
        parser.add_argument(
            "-o",
            "--output",
            metavar="FOLDER",
            type=Path,
            required=True,
            help="new folder for the chart",
        )


def _add_image_arguments(parser: argparse.ArgumentParser, target: str) -> None:
    parser.add_argument(
        "--image",
        metavar="IMAGE",
        help="image to run (default: the name that `headrace build` or `headrace containerize` "
        "gives the image of SOURCE; for a model that is fetched, headrace:VERSION)",
    )
    parser.add_argument("--gpus", metavar="N", default="0", help="GPUs of Nvidia (default 0)")
    if target in ("kserve", "seldon"):
        parser.add_argument(
            "--storage-uri",
            metavar="URI",
            help="where the platform fetches the model, if SOURCE is on this machine",
        )
    if target in SHARED:
        flag, what = SHARED[target]
        parser.add_argument(
            flag,
            dest="shared",
            metavar="NAME",
            default="headrace",
            help=f"name of the {what}, which models share that need the same image (default "
            "headrace)",
        )


def _add_replica_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--env-from",
        metavar="SECRET",
        action="append",
        default=[],
        help="Secret whose keys become variables, such as credentials; may be repeated",
    )
    parser.add_argument("--replicas", metavar="N", default="1", help="servers at least (default 1)")
    parser.add_argument(
        "--max-replicas", metavar="N", help="servers at most (default: as many as at least)"
    )


def run(options: argparse.Namespace) -> int:
    """Print the manifest, and to standard error what to do besides."""
    from headrace.deploy import (
        compose,
        documents,
        helm_chart,
        kserve,
        mounted_files,
        ray_service,
        seldon,
        systemd,
    )

    chosen = _chosen(options)
    if options.target == "helm":
        workload, file = helm_chart.write(options.source, chosen, options.output)
        print(f"wrote {file}")
    elif options.target == "systemd":
        workload, text = systemd.unit(options.source, chosen, options.program)
        print(text, end="")
    else:
        made = {"kserve": kserve, "seldon": seldon, "ray": ray_service, "compose": compose}
        workload, manifests = made[options.target].manifests(options.source, chosen)
        print(documents.joined(manifests), end="")
    files = mounted_files.notes(workload, options.target)
    image_sources.print_notes([*workload.notes, *_about_image(workload, options.target), *files])
    return 0


def _chosen(options: argparse.Namespace) -> Options:
    from headrace.deploy import checks
    from headrace.deploy.workload import Options

    given = vars(options)
    replicas = checks.whole(given.get("replicas") or "1", "--replicas")
    most = None
    if given.get("max_replicas") is not None:
        most = checks.whole(options.max_replicas, "--max-replicas")
        if most < replicas:
            raise ConfigurationError(
                f"--max-replicas: expected at least the {replicas} of --replicas, got {most}"
            )
    return Options(
        name=options.name,
        image=given.get("image"),
        storage_uri=given.get("storage_uri"),
        env=checks.variables(options.env),
        secrets=tuple(map(checks.secret, given.get("env_from") or ())),
        cpu=checks.cpu(options.cpu) if options.cpu is not None else None,
        memory=checks.memory(options.memory) if options.memory is not None else None,
        gpus=checks.whole(given.get("gpus") or "0", "--gpus", least=0),
        replicas=replicas,
        max_replicas=most,
        shared=checks.name(given.get("shared") or "headrace", _shared_flag(options.target)),
    )


def _shared_flag(target: str) -> str:
    return SHARED[target][0] if target in SHARED else ""


def _about_image(workload: Workload, target: str) -> list[str]:
    """How to make an image that was not named, unless nothing needs one."""
    if workload.image_given or target == "systemd":
        return []
    if not workload.holds_models:
        return [
            f"the image {workload.image} has to hold Headrace and the frameworks of the model; "
            "--image names another"
        ]
    source = shlex.quote(workload.source)
    make = f"headrace build {source} -t {workload.image}"
    if workload.kind == "bundle":
        make = f"headrace containerize {source}"
    where = "" if target == "compose" else ", and push it to where the cluster pulls images"
    return [f"make the image with `{make}`{where}; --image names another"]
