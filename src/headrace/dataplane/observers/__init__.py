"""What happens to calls besides being answered: metrics, logs, and whatever may refuse them.

One observer a file. `server.py` lists those that are on, in their order.
"""
