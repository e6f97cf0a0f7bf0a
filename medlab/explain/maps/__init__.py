"""Maps: the methods of explanation, each a function of (model, x, *, target) with heat as its result.

In: any Keras model and images (n, i, j[, k], c). Out: heat (n, i, j[, k]), or a number a slice or region.
"""
