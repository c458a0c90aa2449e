"""How each protocol is served: its routes, how it reads a request and writes an answer.

One file a protocol. `server.py` lists them; routing, 405s, OpenAPI and the pages derive from them.
"""
