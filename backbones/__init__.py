"""Everything that needs PyTorch: networks, heads, data loading and the learner."""
