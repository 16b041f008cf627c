"""How far labels can be trusted, told without a single true label."""
