"""Small PyTorch versions of the three models of `examples/src`, under the same parameter names."""
