"""What MLflow would drop from a table without a word."""

from __future__ import annotations

from typing import Any

from headrace.errors import InvalidInput, shorten


def check_one_row(table: Any, model: str) -> None:
    """Require exactly one row for an agent, of which MLflow answers the first one only.

    Raises:
        InvalidInput: there are more, or none.
    """
    if len(table) != 1:
        raise InvalidInput(
            f"the model '{shorten(model)}' takes one conversation in a request, got {len(table):,};"
            " send each in a request of its own"
        )
