"""The same model on Headrace and on the servers that people use instead, in one run."""
