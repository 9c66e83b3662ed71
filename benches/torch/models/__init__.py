"""Small PyTorch versions of the three models of `bdh-models`, under the same parameter names."""
