"""Renders docs/benchmarks.md from the results; no figure on that page is typed by hand."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks import load_page, peers_page, result_files, service_page
from benchmarks.tables import Run

PAGE = result_files.ROOT / "docs" / "benchmarks.md"

INTRODUCTION = """# Benchmarks

This page is rendered from `benchmarks/results/` by `python -m benchmarks.render`; do not edit it.
`benchmarks/README.md` describes what is measured, how, and with which command.

The load comes from the same machine, so the rates are those of this machine while it also makes the
load; the ratios carry over to other machines better than the rates.
"""


def page(found: Sequence[Run]) -> str:
    """The whole page in Markdown; a result that nobody has measured has no section."""
    parts = [peers_page.section(each) for each in found if "groups" in each]
    parts += [service_page.section(each) for each in found if "ratios" in each]
    parts += [load_page.starts_section(each) for each in found if each.get("name") == "starts"]
    parts += [load_page.network_section(each) for each in found if "networks" in each]
    parts += [load_page.curves_section(each) for each in found if "curves" in each]
    parts += [load_page.memory_section(each) for each in found if "memory" in each]
    parts += [load_page.overload_section(each) for each in found if "overload" in each]
    parts += [load_page.large_bodies_section(each) for each in found if "served" in each]
    return "\n".join([INTRODUCTION, *parts])


def main() -> None:
    """Write the page from every results file."""
    found = [result_files.read(path) for path in sorted(result_files.RESULTS.glob("*.json"))]
    # What other programs wrote is not on this page.
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(found))
    for each in found:
        if "groups" in each:
            PAGE.with_name(peers_page.CHART).write_text(peers_page.picture(each))


if __name__ == "__main__":
    main()
