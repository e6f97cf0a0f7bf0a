"""Asking: a model seen from inside, its cases and targets, and compiled programs that answer.

In: any Keras model, x and a target. Out: scores, gradients and feature maps as NumPy arrays.
"""
