"""All the targets, by name."""

from __future__ import annotations

from fuzz import (
    access_decoders,
    connection_decoders,
    file_decoders,
    inference_decoders,
    scoring_decoders,
)

TARGETS = {
    **inference_decoders.TARGETS,
    **scoring_decoders.TARGETS,
    **connection_decoders.TARGETS,
    **file_decoders.TARGETS,
    **access_decoders.TARGETS,
}
