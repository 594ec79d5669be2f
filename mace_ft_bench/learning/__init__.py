"""Training frames without DFT of our own: distillation of a larger model."""
