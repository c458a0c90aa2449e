"""The Open Inference Protocol as pure functions: JSON, binary tensors and protobuf."""
