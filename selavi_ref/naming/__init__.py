"""Proposals of names for clusters, from texts about the videos, from class probabilities, and from a user's program."""
