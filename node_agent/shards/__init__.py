"""Verified shards and their onnxruntime sessions."""
