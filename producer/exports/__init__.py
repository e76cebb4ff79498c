"""Exports: a job's results as files of a bucket, one module per format, found by its name."""
