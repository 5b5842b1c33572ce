"""Text to tokens and back: tokenizer, chat format, packing."""
