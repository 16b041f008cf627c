"""Labels in the forms of other programs: annotation tools, data sets for training, and files of features."""
