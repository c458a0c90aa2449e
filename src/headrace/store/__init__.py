"""The store: versioned models and bundles on disk, whole or absent, shared by processes.

Internal; `headrace.models` is the public face of the part that holds models.
"""
