"""What a program can check of a reply, one file for each group of checks."""
