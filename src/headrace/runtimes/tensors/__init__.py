"""Models of tensors: ONNX, PyTorch, Keras, TensorFlow."""
