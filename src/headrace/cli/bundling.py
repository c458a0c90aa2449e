"""`headrace build` and `headrace containerize`: bundles, and images of them or of folders."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.cli import image_sources, images
from headrace.cli.stored_items import Parsers, guarded
from headrace.errors import ConfigurationError
from headrace.sources.folder_source import BUILD_FILES

if TYPE_CHECKING:
    from headrace.bundles import Bundle


def add_command(commands: Parsers[argparse.ArgumentParser]) -> None:
    """Add `build` and `containerize`."""
    build = commands.add_parser(
        "build", help="build a bundle of a folder with a build file, or an image of another folder"
    )
    images.add_source(build)
    build.add_argument(
        "-f", "--bentofile", "--file", dest="file", metavar="FILE", type=Path,
        help="build file (default headrace.yaml, bentofile.yaml or vtsfile.yaml in the folder)",
    )  # fmt: skip
    build.add_argument("--version", help="version of the bundle (default: one that sorts by time)")
    build.add_argument(
        "-o", "--output", choices=("default", "tag"), default="default",
        help="tag prints one line, __tag__:NAME:VERSION",
    )  # fmt: skip
    build.add_argument(
        "--containerize", action="store_true", help="build an image of the bundle, named by its tag"
    )
    build.add_argument("--push", metavar="URL", help="push the bundle to an object store")
    images.add_image_arguments(build)
    images.add_builder_arguments(build)
    build.set_defaults(run=guarded(run_build))
    containerize = commands.add_parser("containerize", help="build an image of a bundle")
    containerize.add_argument("bundle", metavar="BUNDLE", help="tag of a bundle, or its folder")
    images.add_builder_arguments(containerize)
    containerize.set_defaults(run=guarded(run_containerize))


def run_build(options: argparse.Namespace) -> int:
    """Build the bundle of a folder with a build file, or the image of one without."""
    from headrace import bundles
    from headrace.packaging import build_file

    folder = Path(options.source)
    kind = image_sources.kind_of(options.source)
    if options.file is None and kind != "folder":
        if not options.tag:
            raise ConfigurationError(f"-t NAME:TAG names the image of {options.source}")
        image_sources.refuse_flags_of_others(options, kind)
        with image_sources.folder_of(options, kind) as made:
            return _containerize(options, made)
    if options.file is None and build_file.find(folder) is None:
        if not options.tag and folder.is_dir():
            raise ConfigurationError(
                f"{folder}: there is no build file, one of {', '.join(BUILD_FILES)}, which a "
                "bundle needs; -t NAME:TAG builds an image without one"
            )
        return images.run_build(options, options.source)
    if options.name is not None or options.env or not options.mounts:
        raise ConfigurationError(
            "--name, --env and --no-mounts are for images of folders without a build file, which "
            "has name and docker.env"
        )
    built = bundles.build(
        folder,
        options.file,
        version=options.version,
        wheel=options.headrace_wheel,
        base_image=options.base_image,
    )
    _report(built, options)
    if options.push:
        bundles.push(built, options.push)
    if options.tag or options.containerize:
        options.tag = options.tag or [str(built.tag)]
        return _containerize(options, Path(built.path))
    return 0


def run_containerize(options: argparse.Namespace) -> int:
    """Build the image of a bundle, named by its tag unless `-t` names it."""
    with image_sources.folder_of(options, "bundle", options.bundle) as folder:
        options.tag = options.tag or [f"{folder.parent.name}:{folder.name}"]
        return _containerize(options, folder)


def _containerize(options: argparse.Namespace, folder: Path) -> int:
    # Builders do not follow a link to the context.
    folder = folder.resolve()
    options.build_option = [f"--file={folder / images.BUNDLE_DOCKERFILE}", *options.build_option]
    return images.build_with(options, folder, f"headrace dockerfile {folder}")


def _report(built: Bundle, options: argparse.Namespace) -> None:
    image_sources.print_notes(built.notes)
    if options.output == "tag":
        print(f"__tag__:{built.tag}")
        return
    print(f'Successfully built Bundle(tag="{built.tag}").')
    print(f"digest {built.info.digest}")
    print(f"serve it with: headrace serve {built.tag}")
