"""Plugins, which take and answer payloads of any media type."""
