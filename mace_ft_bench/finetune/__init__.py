"""Training: recipes in, checked weights and a model card out."""
