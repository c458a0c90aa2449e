"""What happens to calls besides being answered: metrics, logs, and checks that may refuse them.

One observer per file. `application.py` lists the active ones, in order.
"""
