"""What a person sees: progress, tables and pictures of the clusters."""
