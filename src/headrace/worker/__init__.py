"""The child process that holds models: `python -m headrace.worker`.

Needs only the standard library, numpy and the models' frameworks, on Python 3.9 or later.
"""
