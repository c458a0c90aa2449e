"""Plugins: models that take and answer payloads of any media type."""

from headrace.plugins.base import BasePlugin

__all__ = ["BasePlugin"]
