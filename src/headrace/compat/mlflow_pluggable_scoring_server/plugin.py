"""The base class of plugins; ours has the same methods, and more."""

from __future__ import annotations

from headrace.plugins.base import BasePlugin

__all__ = ["BasePlugin"]
