"""The keys of a `settings.json` that are not fields of `ServerSettings`: they are MLServer's.

docs/reference/mlserver.md says what each does here.
"""

from __future__ import annotations

from dataclasses import fields

from headrace.settings import ServerSettings

# What is served where the command line names nothing.
ROOT = "model_repository_root"
# Switches, as values of our settings; a value given under our own key comes first.
SWITCHES = {"debug": ("log_level", "debug"), "use_structured_logging": ("log_format", "json")}
# Keys that have no effect.
IGNORED = (
    "parallel_workers_timeout", "model_repository_implementation",
    "model_repository_implementation_args", "grpc_max_message_length",
    "metrics_dir", "logging_settings", "kafka_enabled",
    "kafka_servers", "kafka_topic_input", "kafka_topic_output", "tracing_server", "cache_enabled",
    "cache_size", "gzip_enabled",
)  # fmt: skip

KNOWN = (*(field.name for field in fields(ServerSettings)), ROOT, *SWITCHES, *IGNORED)
