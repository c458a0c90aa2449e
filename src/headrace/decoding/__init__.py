"""Decodes large bodies in a process of its own, so that they hold up nobody else's request."""
