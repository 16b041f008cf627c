"""Tests of selavi-ref, in the order of its packages."""
