"""The cluster browser: a page that shows what was found, served here to be edited, or written to a folder."""
