"""What users define services with; `headrace.Service` is the entrance."""

from headrace.services.service import Service
from headrace.services.service_context import Context

__all__ = ["Context", "Service"]
