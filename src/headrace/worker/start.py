"""Starts a worker on any interpreter, whether or not headrace is installed there.

Run as a script, by its path. Only this one package becomes importable, not what is installed next
to it in the server's environment: a model must see its own versions of everything.
"""

from __future__ import annotations

import importlib.util
import os
import sys


def offer_package() -> None:
    """Make `headrace` importable from the folder that this file is in."""
    folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    spec = importlib.util.spec_from_file_location(
        "headrace", os.path.join(folder, "__init__.py"), submodule_search_locations=[folder]
    )
    assert spec is not None, "it is a package of plain files"
    assert spec.loader is not None, "it is a package of plain files"
    package = importlib.util.module_from_spec(spec)
    sys.modules["headrace"] = package
    spec.loader.exec_module(package)


if sys.path[0] == os.path.dirname(os.path.abspath(__file__)):
    # As with `python -m`: modules come from the working directory, not from this folder.
    sys.path[0] = os.getcwd()

# Also when multiprocessing runs this file again, in a child that a model started.
if "headrace" not in sys.modules:
    offer_package()

if __name__ == "__main__":
    from headrace.worker import privileges

    # Before a library starts threads, which would keep theirs.
    privileges.drop(sys.argv[1:])
    try:
        from headrace.worker.__main__ import main
    except MemoryError:
        sys.exit("headrace: there is not enough memory to start a worker")
    sys.exit(main())
