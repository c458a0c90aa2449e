"""The text of a Dockerfile: an image is built in one stage and served from another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from headrace.packaging import dockerfile_syntax as syntax

# Of the build context: what is generated, next to the files of the user.
GENERATED = ".headrace"
REQUIREMENTS = "requirements.txt"
WHEELS = "wheels"

PREFIX = "/opt/headrace"
PROGRAM = f"{PREFIX}/bin/headrace"
PYTHON = f"{PREFIX}/bin/python"
ENVIRONMENTS = "/opt/environments"
BUILD = "/build"
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Numeric, so that Kubernetes can see that it is not root, and any base image has it.
USER = "1000:1000"
PORTS = "8080 8081 8082"

# What SageMaker has to know to run many models in one container, or many containers.
SAGEMAKER = "com.amazonaws.sagemaker.capabilities.{}"
SAGEMAKER_CAPABILITIES = ("multi-models", "accept-bind-to-port")

# The words of the user arrive as arguments; no part of them is read as a script.
_INSTALL_PACKAGES = (
    'apt-get update && apt-get install --yes --no-install-recommends "$@" '
    "&& rm -rf /var/lib/apt/lists/*"
)
_PIP_CONFIGURATION = "type=secret,id=pip-conf,target=/etc/pip.conf"


@dataclass(frozen=True)
class Image:
    """What is in an image.

    `content` is the folder of the build context that is copied to `target`, where `serve` finds
    it. `requirements` is the folder with the requirements file and what the file refers to by
    relative paths; `needs_content` says that they are in `content`. `setup_script` is the path of
    a program in the context which the build runs as root.
    """

    base: str
    content: str
    target: str
    requirements: str = GENERATED
    requirements_file: str = REQUIREMENTS
    needs_content: bool = False
    env: Mapping[str, str] = field(default_factory=dict)
    system_packages: tuple[str, ...] = ()
    setup_script: str | None = None
    title: str = ""
    mounts: bool = True


def dockerfile(image: Image) -> str:
    """The whole text, one instruction a line.

    What changes rarely comes first, and the models last, so that a new model costs one layer.
    """
    lines = [
        "# Written by Headrace. Builds with docker (BuildKit), podman and buildah.",
        # Versions of Debian's packages are the user's choice, and layers of the first stage go.
        "# hadolint global ignore=DL3008,DL3059",
        *_build_stage(image),
        "",
        *_last_stage(image),
    ]
    return "\n".join(lines) + "\n"


def _build_stage(image: Image) -> list[str]:
    pip = [PYTHON, "-m", "pip", "install", f"--find-links={BUILD}/{WHEELS}"]
    requirements = f"{BUILD}/{image.requirements_file}"
    cache = _mounts(image, "type=cache,target=/root/.cache", _PIP_CONFIGURATION)
    lines = [
        syntax.base_image(image.base, "build"),
        *syntax.env(
            {
                "HEADRACE_ENVIRONMENTS_DIR": ENVIRONMENTS,
                "UV_COMPILE_BYTECODE": "1",
                "UV_LINK_MODE": "copy",
                "UV_PYTHON_INSTALL_DIR": f"{ENVIRONMENTS}/python",
            }
        ),
        *_system(image),
        syntax.run(["python3", "-m", "venv", PREFIX]),
        "# Headrace, and what the requirements name",
        syntax.copy(f"{image.requirements}/", f"{BUILD}/"),
        *([syntax.copy(image.content, f"{image.target}/")] if image.needs_content else []),
        syntax.run([*pip, f"--requirement={requirements}"], cache),
        "# The environments of models that need one of their own",
    ]
    build = [PROGRAM, "env", "build", image.target]
    downloads = f"type=cache,target={ENVIRONMENTS}/cache"
    if image.needs_content or not image.mounts:
        lines += [] if image.needs_content else [syntax.copy(image.content, f"{image.target}/")]
        lines += [syntax.run(build, _mounts(image, downloads, _PIP_CONFIGURATION))]
    else:
        # Bound, not copied: the models are in the cache of the builder once.
        bound = f"type=bind,source={image.content},target={image.target}"
        lines += [syntax.run(build, [bound, downloads, _PIP_CONFIGURATION])]
    lines += [
        syntax.run(["rm", "-rf", f"{ENVIRONMENTS}/cache"]),
        syntax.run([PYTHON, "-m", "pip", "uninstall", "--yes", "pip", "setuptools"]),
    ]
    return lines


def _last_stage(image: Image) -> list[str]:
    return [
        syntax.base_image(image.base),
        *([syntax.label("org.opencontainers.image.title", image.title)] if image.title else []),
        *(syntax.label(SAGEMAKER.format(what), "true") for what in SAGEMAKER_CAPABILITIES),
        *_system(image),
        *_setup(image),
        syntax.copy(PREFIX, PREFIX, stage="build"),
        syntax.copy(ENVIRONMENTS, ENVIRONMENTS, stage="build"),
        *syntax.env(
            {
                "HEADRACE_CONTAINER": "1",
                "HEADRACE_ENVIRONMENTS_DIR": ENVIRONMENTS,
                "HEADRACE_HOST": "0.0.0.0",
                # Of what libraries cache, in the one folder that a read-only root leaves.
                "HOME": "/tmp",
                "HEADRACE_HOME": "/tmp/headrace",
                "PATH": f"{PREFIX}/bin:{SYSTEM_PATH}",
                "PYTHONUNBUFFERED": "1",
                # Libraries ask for the name of a user that has no entry in /etc/passwd.
                "USER": "headrace",
                **image.env,
            }
        ),
        f"WORKDIR {image.target}",
        f"USER {USER}",
        f"EXPOSE {PORTS}",
        "HEALTHCHECK --interval=10s --timeout=5s --start-period=300s "
        + syntax.array("CMD", [PROGRAM, "health"]),
        syntax.array("ENTRYPOINT", [PROGRAM]),
        # Of the folder of the image, unless the platform names another.
        syntax.array("CMD", ["serve"]),
        # Owned by the user of the image, since files may be readable by their owner alone.
        syntax.copy(image.content, f"{image.target}/", owner=USER),
    ]


def _system(image: Image) -> list[str]:
    if not image.system_packages:
        return []
    script = ["sh", "-c", _INSTALL_PACKAGES, "install"]
    return [
        "# In both stages: what is built may need them, and what runs too",
        syntax.run([*script, *image.system_packages]),
    ]


def _setup(image: Image) -> list[str]:
    if image.setup_script is None:
        return []
    return [
        syntax.copy(image.setup_script, f"{BUILD}/setup_script", mode="755"),
        syntax.run([f"{BUILD}/setup_script"]),
    ]


def _mounts(image: Image, *mounts: str) -> list[str]:
    return list(mounts) if image.mounts else []
