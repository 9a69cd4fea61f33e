"""Triton: one server a tier for ONNX, one a group and tier for code; what is in them and how they are asked."""
