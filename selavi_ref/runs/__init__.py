"""The run folder: settings, checkpoints, log, files that are replaced whole, signals, and the processes of a run."""
