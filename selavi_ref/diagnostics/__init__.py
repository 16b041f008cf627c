"""Checks of how far labels can be trusted, which need no true labels."""
