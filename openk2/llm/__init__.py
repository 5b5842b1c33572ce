"""Any chat model over HTTP: an OpenAI-compatible client that retries, keeps to the endpoint's pace, and remembers."""
