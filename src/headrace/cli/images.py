"""`headrace dockerfile` and `headrace build -t`: images of models."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.cli import image_sources
from headrace.errors import ConfigurationError

if TYPE_CHECKING:
    from headrace.packaging.folder_image import ImageOptions

BUNDLE_DOCKERFILE = "env/docker/Dockerfile"
BUILDERS = ("docker", "podman", "buildah")


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `dockerfile`."""
    parser = commands.add_parser("dockerfile", help="write a Dockerfile for a model or a folder")
    add_source(parser)
    add_image_arguments(parser)
    parser.add_argument(
        "-o",
        "--output",
        metavar="FOLDER",
        type=Path,
        help="write a whole build context into this new folder; by default, a local folder of "
        "models gets its Dockerfile in place",
    )
    parser.add_argument(
        "-i",
        "--include-dockerignore",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="write a .dockerignore too, unless there is one (default)",
    )
    parser.set_defaults(run=run_dockerfile)


def add_source(parser: argparse.ArgumentParser) -> None:
    """Add the positional argument that names what an image is made of."""
    parser.add_argument(
        "source",
        metavar="SOURCE",
        nargs="?",
        default=".",
        help="a folder of models, an MLflow model or its URI, a bundle, or a service; the current "
        "folder by default",
    )


def add_image_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say what is in an image."""
    parser.add_argument("--name", help="name to serve a single model under")
    parser.add_argument(
        "--base-image",
        metavar="IMAGE",
        help="image to start from; it needs Python 3.11 or later with venv "
        "(default python:X.Y-slim, of the Python that the models ask for)",
    )
    parser.add_argument(
        "--env",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="variable to set in the image; may be repeated",
    )
    parser.add_argument(
        "--headrace-wheel",
        metavar="FILE",
        type=Path,
        help="wheel of Headrace to install (default: one made of the Headrace that runs now)",
    )
    parser.add_argument(
        "--mounts",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="let the build keep caches, as BuildKit, podman and buildah can (default)",
    )


def add_builder_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say how an image is built."""
    parser.add_argument(
        "-t",
        "--tag",
        metavar="NAME:TAG",
        action="append",
        default=[],
        help="name of the image; may be repeated",
    )
    parser.add_argument(
        "--builder", choices=BUILDERS, help="program that builds it (default: the first there is)"
    )
    parser.add_argument(
        "--build-option",
        metavar="OPTION",
        action="append",
        default=[],
        help="option to pass to that program as it is, such as "
        "--build-option=--platform=linux/arm64; may be repeated",
    )
    parser.add_argument("--no-cache", action="store_true", help="build every layer again")


def run_dockerfile(options: argparse.Namespace) -> int:
    """Write the Dockerfile, and print what to run next."""
    from headrace.store.staging import failures
    from headrace.store.transfer import copy_content

    kind = image_sources.kind_of(options.source)
    if kind == "folder":
        return _write_for_folder(options)
    image_sources.refuse_flags_of_others(options, kind)
    with image_sources.folder_of(options, kind) as bundle:
        context = _new_folder(options.output or Path(f"{bundle.parent.name}-image"))
        with failures(f"'{context}'"):
            copy_content(bundle, context, "copying the bundle")
    # Next to what it copies, where builders look for it.
    shutil.copyfile(context / BUNDLE_DOCKERFILE, context / "Dockerfile")
    print(f"wrote {context / 'Dockerfile'}")
    print(f"build it with: docker build -t {bundle.parent.name} {context}")
    return 0


def _write_for_folder(options: argparse.Namespace) -> int:
    from headrace.packaging import build_context, folder_image

    chosen = image_options(options)
    with image_sources.local(options.source) as folder:
        if options.output is None and folder == Path(options.source):
            plan = folder_image.plan(folder, chosen)
            build_context.refuse_links_out(folder)
            file = build_context.write(plan, folder, chosen.wheel)
            if options.include_dockerignore:
                build_context.write_ignore_file(folder)
        else:
            context = _new_folder(options.output or Path(f"{_safe_name(options)}-image"))
            plan = folder_image.plan(folder, chosen, build_context.MODELS)
            build_context.fill(context, folder)
            file = build_context.write(plan, context, chosen.wheel)
    image_sources.print_notes(plan.notes)
    print(f"wrote {file}")
    print(f"build it with: docker build -t {plan.image.title.lower()} {file.parent}")
    return 0


def run_build(options: argparse.Namespace, source: str) -> int:
    """Build the image of a folder of models or of a model."""
    from headrace.packaging import build_context, folder_image

    chosen = image_options(options)
    with image_sources.local(source) as folder, build_context.staged(folder) as context:
        plan = folder_image.plan(folder, chosen, build_context.MODELS)
        build_context.write(plan, context, chosen.wheel)
        image_sources.print_notes(plan.notes)
        return build_with(options, context, f"headrace dockerfile {source}")


def build_with(options: argparse.Namespace, context: Path, instead: str) -> int:
    """Build a finished context; `instead` is the command that writes it for another builder."""
    from headrace.packaging import dockerfile_syntax, image_builder

    for tag in options.tag:
        dockerfile_syntax.image_name(tag, "--tag")
    builder = image_builder.choose(options.builder)
    if builder is None:
        print(
            "headrace: found none of docker, podman and buildah with which to build an image.\n"
            f"Run `{instead}` to write the Dockerfile, and build it where one of them is:\n"
            f"  docker build -t {options.tag[0]} FOLDER",
            file=sys.stderr,
        )
        return 1
    passed = [*(["--no-cache"] if options.no_cache else []), *options.build_option]
    status = image_builder.build(builder, context, options.tag, passed)
    if status != 0:
        print(f"headrace: {builder.name} exited with {status}", file=sys.stderr)
        return 1
    print(f"built {' and '.join(options.tag)} with {builder.name}")
    return 0


def image_options(options: argparse.Namespace) -> ImageOptions:
    """The flags of an image, checked.

    Raises:
        ConfigurationError: one of them is wrong.
    """
    from headrace.packaging.folder_image import ImageOptions
    from headrace.sources.names import checked_name

    if options.name is not None:
        checked_name(options.name, "--name")
    return ImageOptions(
        options.base_image,
        options.headrace_wheel,
        options.name,
        options.mounts,
        image_sources.variables(options),
    )


def _new_folder(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise ConfigurationError(
                f"--output: {folder} is not empty; remove it, or choose another"
            )
    except OSError as error:
        raise ConfigurationError(f"--output: {folder}: {error.strerror}") from None
    return folder


def _safe_name(options: argparse.Namespace) -> str:
    from headrace.sources.names import is_uri, name_of_folder, name_of_uri

    if options.name is not None:
        return str(options.name)
    if is_uri(options.source):
        return name_of_uri(options.source)
    return name_of_folder(Path(options.source).resolve())
