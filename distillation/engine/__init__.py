"""The local engine: a loopback server that speaks the training service's protocol over PyTorch."""
