"""What a request meets on its way: a served model, with its batcher and its executor."""
