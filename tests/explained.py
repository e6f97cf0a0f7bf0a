"""Networks and images that several test files of explanations use."""

import keras
import numpy as np

L = keras.layers


def images(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def network(shape=(16, 16, 1), classes=2):
    model = keras.Sequential(
        [
            keras.Input(shape),
            L.Conv2D(8, 3, padding="same"),
            L.BatchNormalization(),
            L.ReLU(),
            L.Conv2D(8, 3, padding="same", activation="relu"),
            L.GlobalAveragePooling2D(),
            L.Dense(classes),
        ]
    )
    generator = np.random.default_rng(5)
    model.set_weights([abs(generator.normal(size=w.shape)) - 0.5 * (w.ndim > 1) for w in model.get_weights()])
    return model
