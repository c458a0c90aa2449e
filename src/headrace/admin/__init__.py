"""Routes about the server and its models: health, metadata, loading, metrics and pages."""
