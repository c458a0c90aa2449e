"""A wheel of the Headrace that runs now, so that an image or a bundle gets the same one."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from importlib import metadata
from pathlib import Path

import headrace
from headrace.errors import ConfigurationError

# The earliest time a zip file can hold: equal content makes equal bytes.
EPOCH = (1980, 1, 1, 0, 0, 0)
_WHEEL = "Wheel-Version: 1.0\nGenerator: headrace\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def provide(folder: Path, given: Path | None = None) -> Path:
    """Put a wheel of Headrace into a folder: the one given, or one made of what is running.

    Raises:
        ConfigurationError: the file given is not a wheel of Headrace, or there is no installation
            to make one of.
    """
    if given is None:
        return pack(folder)
    if not given.name.startswith("headrace-") or not zipfile.is_zipfile(given):
        raise ConfigurationError(
            f"--headrace-wheel: expected a wheel of Headrace, headrace-VERSION-py3-none-any.whl, "
            f"got '{given}'"
        )
    target = folder / given.name
    target.write_bytes(given.read_bytes())
    return target


def pack(folder: Path) -> Path:
    """Make the wheel in a folder; the same installation makes the same bytes."""
    try:
        installed = metadata.distribution("headrace")
    except metadata.PackageNotFoundError:
        raise ConfigurationError(
            "Headrace runs here without being installed, so no wheel can be made of it; "
            "--headrace-wheel names one"
        ) from None
    info = f"headrace-{headrace.__version__}.dist-info"
    content = {f"{info}/WHEEL": _WHEEL.encode()}
    for name in ("METADATA", "entry_points.txt"):
        content[f"{info}/{name}"] = (installed.read_text(name) or "").encode()
    package = Path(headrace.__file__).parent
    for file in sorted(package.rglob("*")):
        if file.is_file() and "__pycache__" not in file.parts:
            content[f"headrace/{file.relative_to(package).as_posix()}"] = file.read_bytes()
    record = "".join(f"{name},{_digest(data)},{len(data)}\n" for name, data in content.items())
    content[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    target = folder / f"headrace-{headrace.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(target, "w") as wheel:
        for name, data in content.items():
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            wheel.writestr(entry, data)
    return target


def _digest(data: bytes) -> str:
    found = base64.urlsafe_b64encode(hashlib.sha256(data).digest())
    return "sha256=" + found.rstrip(b"=").decode()
