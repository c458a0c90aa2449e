"""Turns the MODEL argument of the command line into the source that it names."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from headrace.sources.folder_source import FolderSource
from headrace.sources.names import is_uri
from headrace.sources.plugin_argument import PluginArgument
from headrace.sources.plugin_source import PluginSource
from headrace.sources.service_source import ServiceSource, reference_of
from headrace.sources.source import Source
from headrace.sources.uri_source import UriSource
from headrace.store.kinds import is_bundle

# Schemes that are never the name of a stored model. MLflow's client knows more, from plugins too.
SCHEMES = frozenset((
    "abfss", "azureml", "databricks", "dbfs", "file", "ftp", "gs", "hdfs", "http", "https",
    "mlflow-artifacts", "models", "r2", "runs", "s3", "sftp", "viewfs", "wasb", "wasbs",
))  # fmt: skip


def open_source(
    model: str,
    name: str | None = None,
    environ: Mapping[str, str] | None = None,
    plugin: PluginArgument | None = None,
    packages: Sequence[str] = (),
) -> Source:
    """The source for `model`; nothing is read from it yet. See `Source` for the arguments."""
    if plugin is not None:
        return PluginSource(model, plugin, name, environ, packages)
    reference = reference_of(model)
    if reference is not None:
        return ServiceSource(model, reference, name, environ, packages)
    return _kind_of(model)(model, name, environ, packages)


def settings_folder(model: str) -> Path | None:
    """The folder whose `settings.json` counts: the one that is served, or a bundle's sources."""
    return _kind_of(model)(model).settings_folder()


def _kind_of(model: str) -> type[Source]:
    """A URI of a known scheme; else a path that exists; else what is stored; else any URI."""
    uri = is_uri(model)
    if uri and ("://" in model or model.partition(":")[0].lower() in SCHEMES):
        return UriSource
    exists = os.path.lexists(model)
    if exists and not is_bundle(Path(model)):
        return FolderSource
    # Imported here because most models are in no store, and start sooner without its modules.
    from headrace.sources.bundle_source import BundleSource, is_stored_bundle
    from headrace.sources.store_source import StoreSource, is_stored

    if exists or is_stored_bundle(model):
        return BundleSource
    # What has the form of a tag is one, so that a typo is reported by the store, and at once.
    if is_stored(model) or (uri and "/" not in model):
        return StoreSource
    return UriSource if uri else FolderSource
