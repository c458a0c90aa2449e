"""Headrace serves the models you logged."""

from headrace.errors import HeadraceError, InvalidInput
from headrace.model import Model

__version__ = "0.1.0"

__all__ = ["HeadraceError", "InvalidInput", "Model", "__version__"]
