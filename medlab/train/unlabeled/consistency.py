"""Consistency: a network that must say the same of different views of an unlabeled case.

In: a classifier. Out: a functional network that takes a labeled view, weak and strong views of unlabeled cases in one
row, and its loss.
"""

from __future__ import annotations

from typing import Any

from medlab.backend import keras
from medlab.train.unlabeled.following import Followed

layers, ops = keras.layers, keras.ops


def together(classifier: keras.Model, shape: tuple[int, ...], ratio: int, *, momentum: float | None) -> keras.Model:
    """(n, 1 + 2 ratio, i, j[, k], c) to logits (n, 1 + 2 ratio, classes): labeled, weak, strong.

    With ``momentum`` the weak views are judged by the running mean of the network, else by the network itself.
    """
    rows = keras.Input((1 + 2 * ratio, *shape), name="views")
    outputs = classifier.output_shape[-1]

    def flat(images: Any) -> Any:
        return ops.reshape(images, (-1, *shape))

    if momentum is None:
        out = ops.reshape(classifier(flat(rows)), (-1, 1 + 2 * ratio, outputs))
    else:
        weak = flat(rows[:, 1 : 1 + ratio])
        taught = ops.concatenate([rows[:, :1], rows[:, 1 + ratio :]], axis=1)
        own, slow = Followed(classifier, momentum=momentum, name="followed")([flat(taught), weak])
        own, slow = ops.reshape(own, (-1, 1 + ratio, outputs)), ops.reshape(slow, (-1, ratio, outputs))
        out = ops.concatenate([own[:, :1], slow, own[:, 1:]], axis=1)
    out = layers.Activation("linear", dtype="float32", name="answers")(out)
    if outputs == 1:  # one logit is that of the second class, against 0
        out = ops.concatenate([ops.zeros_like(out), out], axis=-1)
    return keras.Model(rows, out, name="consistency")


class Consistent:
    """Cross-entropy of the labeled view, and what the strong views say beside what the weak ones said.

    Args:
        ratio: unlabeled cases in a row.
        weight: of the unlabeled part.
        threshold: probability from which a weak answer becomes the label of the strong view (Sohn et al. 2020,
            FixMatch); None: the mean squared difference of all probabilities instead (Tarvainen and Valpola 2017).
    """

    name = "consistent"

    def __init__(self, ratio: int, *, weight: float, threshold: float | None) -> None:
        self.ratio, self.weight, self.threshold = ratio, weight, threshold

    def __call__(self, y: Any, logits: Any) -> Any:
        """(n,) losses; ``y`` (n, 2) are the class and the present share of the unlabeled part."""
        logits = ops.cast(logits, "float32")
        told = ops.one_hot(ops.cast(y[:, 0], "int32"), logits.shape[-1])
        labeled = ops.logsumexp(logits[:, 0], axis=-1) - ops.sum(told * logits[:, 0], axis=-1)
        weak, strong = logits[:, 1 : 1 + self.ratio], logits[:, 1 + self.ratio :]
        p = ops.stop_gradient(ops.softmax(weak, axis=-1))
        if self.threshold is None:
            apart = ops.mean(ops.square(p - ops.softmax(strong, axis=-1)), axis=-1)
        else:
            sure = ops.cast(ops.max(p, axis=-1) >= self.threshold, "float32")
            best = ops.one_hot(ops.argmax(p, axis=-1), logits.shape[-1])
            apart = sure * (ops.logsumexp(strong, axis=-1) - ops.sum(best * strong, axis=-1))
        return labeled + self.weight * y[:, 1] * ops.mean(apart, axis=-1)
