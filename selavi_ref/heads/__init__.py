"""Heads and labels learnt from features that other models have computed, without PyTorch."""
