"""Run many small jobs: executors, JSON Lines shards, resume, rejects, atomic files."""
