"""Decodes large bodies in a separate process, so that they do not block other requests."""
