"""Run untrusted programs: a box of its own for each, without network or host files, within limits."""
