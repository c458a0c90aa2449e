"""The request and answer of a custom route, where no web framework is installed."""

from __future__ import annotations
