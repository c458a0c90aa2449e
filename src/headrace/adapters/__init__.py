"""Protocol adapters: their routes, and how they read a request and write an answer.

One file per protocol. `application.py` lists them; routing, 405s, OpenAPI and the pages derive from
them.
"""
