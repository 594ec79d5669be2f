"""MACE without autograd: the whole forward and backward pass of a model as a few compiled loops over atoms."""
