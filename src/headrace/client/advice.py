"""What to do about a file whose columns are not those that a model takes."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.client import columns
from headrace.client.sources import Selection
from headrace.errors import listing, nearest, shorten


def advice_on(names: Sequence[str], inputs: columns.Metadata, selection: Selection) -> str:
    """What may help if all rows fail; "" if the columns do not say."""
    known = [str(item["name"]) for item in inputs]
    surplus = [name for name in selection.sent(names, inputs) if name not in known]
    # A model with one input may take it by any name.
    if not surplus or columns.element_of(inputs) is not None or len(known) == 1 == len(names):
        return ""
    missing = [name for name in known if name not in names]
    if len(surplus) == len(names) and any(map(_is_number, names)):
        return "the first line of the file seems to hold values: it must name the columns"
    said = []
    if renamed := _renamed(surplus, missing):
        pairs = (f"'{shorten(have)}' to '{shorten(takes)}'" for have, takes in renamed.items())
        said.append(f"rename {', '.join(pairs)}: names count to the letter")
    unknown = [name for name in surplus if name not in renamed]
    if unknown and len(unknown) < len(names):
        said.append(
            f"the model's inputs do not include {listing(unknown)}: --ignore-extra leaves out such "
            "columns, --keep NAME,... also carries them into the output"
        )
    return "; ".join(said)


def _renamed(surplus: Sequence[str], missing: Sequence[str]) -> dict[str, str]:
    """Which columns of the file may be which inputs that it lacks."""
    by_letters = {_letters(name): name for name in missing}
    exact = {name: by_letters[_letters(name)] for name in surplus if _letters(name) in by_letters}
    found: dict[str, str] = {}
    left = [name for name in missing if name not in exact.values()]
    for name in surplus:
        takes = exact.get(name) or nearest(name, left)
        if takes and takes not in found.values():
            found[name] = takes
    return found


def _letters(name: str) -> str:
    """A name without what people write in several ways."""
    return "".join(each for each in name.casefold() if each.isalnum())


def _is_number(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return True
