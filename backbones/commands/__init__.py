"""The commands of `selavi` that need PyTorch, one in each module, as Click commands that the program registers."""
