"""Tasks whose tools really run, in a sandbox: Python programs, files, git repositories, SQL."""
