"""Labels over time: stretches of one label from the posteriors of consecutive windows of a video."""
