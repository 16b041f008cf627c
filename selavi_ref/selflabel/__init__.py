"""The self-labelling loop, written against a backbone of any framework."""
