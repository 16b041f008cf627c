"""Studies: experiments on one collection that each give a table and a figure."""
