"""Studies: what a claim of the method is worth on a collection, each as a table and a figure."""
