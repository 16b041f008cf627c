"""The backbone in PyTorch: two networks with heads, their settings, optimiser and checkpoints."""
