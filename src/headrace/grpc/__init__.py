"""The gRPC transport: the Open Inference Protocol, health and reflection over HTTP/2."""

import os

# Before grpc is imported: its handlers for forks only log that they do nothing here, at every
# program that is started.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
