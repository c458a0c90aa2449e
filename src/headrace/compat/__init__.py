"""Runs source code written for other servers, unchanged."""
