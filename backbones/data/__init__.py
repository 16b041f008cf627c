"""Clips for training and evaluation: decoded, cut, augmented, and put into batches."""
