"""The usual strength of the transport."""

STRENGTH = 10.0  # lambda / 2 of the paper, 1 / reg of POT
