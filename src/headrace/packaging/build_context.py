"""The folder that a builder makes an image from: a Dockerfile, what we generate, the models."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from headrace.archives.walking import resolved, walk
from headrace.errors import ConfigurationError, shorten
from headrace.packaging import headrace_wheel
from headrace.packaging.folder_image import ImagePlan
from headrace.packaging.image_text import BUILD, GENERATED, REQUIREMENTS, WHEELS, dockerfile
from headrace.packaging.selected_files import ignore_lines
from headrace.settings import home_folder
from headrace.store.staging import Staging

DOCKERFILE = "Dockerfile"
IGNORE_FILE = ".dockerignore"
# Whose content never belongs into an image. The Dockerfile itself is there for rebuilding.
IGNORED = (
    ".git",
    ".venv*",
    "__pycache__",
    "*.py[co]",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
)
MODELS = "models"


def write(plan: ImagePlan, folder: Path, wheel: Path | None) -> Path:
    """Write the Dockerfile and what it copies, except for the models; returns the Dockerfile.

    Raises:
        ConfigurationError: the folder is not writable, or has a Dockerfile of somebody else.
    """
    file = folder / DOCKERFILE
    try:
        _refuse_foreign(file)
        generated = folder / GENERATED
        shutil.rmtree(generated, ignore_errors=True)
        (generated / WHEELS).mkdir(parents=True)
        packed = headrace_wheel.provide(generated / WHEELS, wheel)
        (generated / REQUIREMENTS).write_text("\n".join(_requirements(plan, packed)) + "\n")
        file.write_text(dockerfile(plan.image))
    except OSError as error:
        raise ConfigurationError(f"{folder} cannot be written: {error.strerror}") from None
    return file


def write_ignore_file(folder: Path) -> None:
    """Write a `.dockerignore`, unless there is one."""
    file = folder / IGNORE_FILE
    if not file.exists():
        file.write_text("".join(f"**/{pattern}\n" for pattern in IGNORED))


@contextmanager
def staged(content: Path) -> Iterator[Path]:
    """A temporary build context with the files of a folder below `models`.

    Files are linked rather than copied where the file system can, since models are large.

    Raises:
        ConfigurationError: a link leads out of the folder, or the files cannot be read.
        StoreFailed: the home folder cannot be written.
    """
    with Staging(scratch_folder()).folder() as context:
        fill(context, content)
        yield context


def scratch_folder() -> Path:
    """Where contexts are made; like those of a store, what killed processes leave is removed."""
    return home_folder() / "images"


def fill(context: Path, content: Path) -> None:
    """Put the files of a folder below `models` of a build context, and what it ignores.

    Raises:
        ConfigurationError: a link leads out of the folder, or the files cannot be read.
    """
    refuse_links_out(content)
    try:
        # A context inside the folder must not be copied into itself.
        inside = context.resolve()
        skip = shutil.ignore_patterns(".git", ".venv*", "__pycache__", GENERATED)

        def ignored(folder: str, names: list[str]) -> set[str]:
            own = {name for name in names if resolved(Path(folder, name)) == inside}
            return skip(folder, names) | own

        shutil.copytree(
            content, context / MODELS, symlinks=True, ignore=ignored, copy_function=_link
        )
        (context / IGNORE_FILE).write_text("".join(_moved_patterns(content / IGNORE_FILE)))
    except shutil.Error as error:
        (_, _, reason), *_ = error.args[0]
        raise ConfigurationError(f"{content} cannot be copied: {reason}") from None
    except OSError as error:
        raise ConfigurationError(f"{content} cannot be copied: {error.strerror}") from None


def refuse_links_out(folder: Path) -> None:
    """Refuse a folder with a symbolic link that leads out of it: an image would not have the file.

    Raises:
        ConfigurationError: there is one; the message names it.
    """
    try:
        link = next(_links_out(folder), None)
    except OSError as error:
        raise ConfigurationError(f"{error.filename} cannot be read: {error.strerror}") from None
    if link is not None:
        raise ConfigurationError(
            f"{folder}: '{shorten(link.relative_to(folder))}' is a link that leads out of "
            "the folder; replace it by a copy of the file"
        )


def _links_out(folder: Path) -> Iterator[Path]:
    root = folder.resolve()
    for parent, folders, names in walk(folder):
        folders[:] = [name for name in folders if name != ".git" and not name.startswith(".venv")]
        for name in (*folders, *names):
            path = Path(parent, name)
            if path.is_symlink() and not resolved(path).is_relative_to(root):
                yield path


def _requirements(plan: ImagePlan, wheel: Path) -> Sequence[str]:
    extras = f"[{','.join(plan.extras)}]" if plan.extras else ""
    return [f"headrace{extras} @ file://{BUILD}/{WHEELS}/{wheel.name}", *plan.requirements]


def _refuse_foreign(file: Path) -> None:
    with_ours = b"# Written by Headrace."
    if file.exists() and not file.read_bytes().startswith(with_ours):
        raise ConfigurationError(
            f"{file} exists and was not written by Headrace; --output writes to another folder"
        )


def _moved_patterns(file: Path) -> Iterator[str]:
    """The patterns of the folder's `.dockerignore`, as they apply to the folder below `models`."""
    lines = ignore_lines(file) if file.exists() else []
    for line in lines:
        pattern = line.strip()
        if not pattern or pattern.startswith("#"):
            continue
        negated = "!" if pattern.startswith("!") else ""
        yield f"{negated}{MODELS}/{pattern.removeprefix('!').strip().lstrip('/')}\n"
    yield from (f"**/{pattern}\n" for pattern in IGNORED)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
