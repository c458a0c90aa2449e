"""The child process that holds models: `python -m headrace.worker`.

Needs the standard library, numpy and the models' frameworks only, on Python 3.9 or later.
"""
