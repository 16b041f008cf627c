"""Helpers of several tests: videos, runs and stores, programs, and a browser."""
