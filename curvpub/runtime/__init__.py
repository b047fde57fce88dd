"""The outside world, one file per outside API: devices, checkpoints, files, progress."""
