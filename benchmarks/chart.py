"""Bars in SVG, for rates that a reader compares at a glance."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

WIDTH, LABEL, NUMBER = 760, 270, 70
BAR, GAP, TOP = 20, 8, 34
OURS, THEIRS = "#1f6feb", "#8b949e"


def bars(title: str, rows: Sequence[tuple[str, float, bool]]) -> str:
    """Each row's label, value, and whether it is ours; the longest bar has the highest value."""
    height = TOP + len(rows) * (BAR + GAP)
    most = max((value for _, value, _ in rows), default=0) or 1
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="8" y="20" font-weight="bold">{escape(title)}</text>',
    ]
    for number, (label, value, ours) in enumerate(rows):
        y = TOP + number * (BAR + GAP)
        width = round((WIDTH - LABEL - NUMBER) * value / most, 1)
        text = y + BAR - 5
        parts += [
            f'<text x="{LABEL - 8}" y="{text}" text-anchor="end">{escape(label)}</text>',
            f'<rect x="{LABEL}" y="{y}" width="{width}" height="{BAR}" '
            f'fill="{OURS if ours else THEIRS}"/>',
            f'<text x="{LABEL + width + 6}" y="{text}">{value:,.0f}</text>',
        ]
    return "\n".join([*parts, "</svg>\n"])
