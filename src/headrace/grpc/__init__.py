"""The gRPC door: the Open Inference Protocol, health and reflection over HTTP/2."""
