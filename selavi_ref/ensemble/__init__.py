"""From the clusters of several heads to one label for each video, without true labels."""
