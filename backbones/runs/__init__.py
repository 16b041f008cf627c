"""What is done with a run folder: start it, train it, extract features, convert checkpoints."""
