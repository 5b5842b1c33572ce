"""Tasks that others made and publish, in our words: tau2-bench, BFCL and ACEBench, read from their own files."""
