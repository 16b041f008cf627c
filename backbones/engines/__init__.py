"""The plan pass of the transport solver in PyTorch and Triton."""
