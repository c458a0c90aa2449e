"""The gRPC transport: the Open Inference Protocol, health and reflection over HTTP/2."""

import os

# Before grpc is imported: its fork handlers can do nothing here except log that, whenever a
# program is started.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
