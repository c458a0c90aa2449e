"""What a request passes through: a served model with its batcher and its executor."""
