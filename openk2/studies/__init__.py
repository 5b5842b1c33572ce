"""Studies: claims of the paper, measured again at a size that a laptop holds."""
