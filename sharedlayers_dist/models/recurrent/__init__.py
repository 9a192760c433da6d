"""Recurrent layers over one-hot rows, run over each item's own steps alone.

What is computed is what Keras computes, to rounding, and the weights are those of the layer.
"""
