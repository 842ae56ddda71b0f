"""The trained model for others: a folder of data, and what reads it: predict, serving, ONNX, a registry."""
