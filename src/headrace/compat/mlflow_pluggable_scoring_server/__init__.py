"""What plugins of the MLflow pluggable scoring server import, under its own name."""
