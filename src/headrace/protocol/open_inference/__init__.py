"""The Open Inference Protocol as pure functions: JSON, binary tensors and protobuf."""

# The service of `inference.proto` by its full name.
GRPC_SERVICE = "inference.GRPCInferenceService"
