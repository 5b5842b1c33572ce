"""The demands that tasks are composed of, one file for each group."""
