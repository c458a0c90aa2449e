"""What this server serves now: discovery, loading, versions."""
