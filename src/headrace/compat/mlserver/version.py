"""The version of MLServer whose API this follows."""

from __future__ import annotations

__version__ = "1.7.1"
