"""Adaptive batching: the pure policy, and the loop that applies it."""
