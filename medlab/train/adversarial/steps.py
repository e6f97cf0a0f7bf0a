"""Steps: one of the discriminator and one of the generator, each a Keras model that moves its own network alone.

The old recipe (compile the discriminator, set it untrainable, compile both stacked) never trains the discriminator in
Keras 3. Here each step names the other network's weights among those that are not trained, and calls both networks
without their state: what a call would write (statistics of batch normalization, weights divided by their spectral norm)
is dropped for the other network, and for its own only what is no weight to train is kept.
"""

from __future__ import annotations

from typing import Any

from medlab.backend import keras
from medlab.train.adversarial.distorting import distort

ops = keras.ops

LOSSES = ("hinge", "non-saturating")


class _Step(keras.Model):
    """What both have in common.

    Args:
        own: the network that this step trains.
        others: models whose weights it reads.
        loss: one of ``LOSSES``.
        changes: what :func:`distort` does to real and generated images.
        limits: lowest and highest value of the images.
    """

    def __init__(
        self, own: keras.Model, others: list[keras.Model], *, loss: str, changes: tuple[str, ...],
        limits: tuple[float, float],
    ) -> None:  # fmt: skip
        super().__init__(name=f"{own.name}_step")
        self.own, self.others = own, others
        self.loss_name, self.changes, self.limits = loss, changes, limits
        self.count = self.add_weight(shape=(), initializer="zeros", trainable=False, name="count")
        self.built = True

    @property
    def trainable_variables(self) -> list[Any]:
        """The weights of its own network."""
        return self.own.trainable_variables

    @property
    def trainable_weights(self) -> list[Any]:
        """The same."""
        return self.trainable_variables

    @property
    def non_trainable_variables(self) -> list[Any]:
        """All else that it reads or writes."""
        rest = [one for network in self.others for one in network.variables]
        return [*self.own.non_trainable_variables, *rest, self.count]

    @property
    def non_trainable_weights(self) -> list[Any]:
        """The same."""
        return self.non_trainable_variables

    def judged(self, discriminator: keras.Model, images: Any, numbers: Any, labels: Any, *, keep: bool) -> Any:
        """The logits of distorted images; ``keep`` writes the discriminator's state but for its weights."""
        images = distort(images, numbers, self.changes, self.limits) if self.changes else images
        return _called(discriminator, images if labels is None else [images, labels], keep=keep)


class DiscriminatorStep(_Step):
    """One step of the discriminator, on real images and on generated ones.

    Its input is a dict: real (n, i, j[, k], c), latent (n, latent), numbers (2 n, ...) for :func:`distort`, and where
    there are classes label (n,) of the real and wanted (n,) of the generated images.
    """

    def call(self, inputs: dict[str, Any], training: bool = True) -> Any:
        """Logits (2 n, 1), the real ones first."""
        generator = self.others[0]
        labels, wanted = inputs.get("label"), inputs.get("wanted")
        asked = inputs["latent"] if wanted is None else [inputs["latent"], wanted]
        made = ops.stop_gradient(_called(generator, asked, keep=False))
        images = ops.concatenate([inputs["real"], made])
        labels = None if labels is None else ops.concatenate([labels, wanted])
        return self.judged(self.own, images, inputs["numbers"], labels, keep=True)

    def compute_loss(self, x: Any = None, y: Any = None, y_pred: Any = None, *_: Any, **__: Any) -> Any:
        """Low where real images have logits above 0 and generated ones below."""
        real, made = ops.split(y_pred, 2)
        if self.loss_name == "hinge":  # Lim and Ye 2017; Miyato et al. 2018, equation 16
            return ops.mean(ops.relu(1 - real)) + ops.mean(ops.relu(1 + made))
        return ops.mean(ops.softplus(-real)) + ops.mean(ops.softplus(made))


class GeneratorStep(_Step):
    """One step of the generator; beside it a running mean of its weights and statistics.

    Its input is a dict: latent, numbers (n, ...) and where there are classes wanted (n,). The mean is taken of the
    weights before each step, with momentum ``(1 + t) / (10 + t)`` after t steps, at most ``momentum``; None takes none.
    """

    def __init__(self, own: keras.Model, others: list[keras.Model], *, momentum: float | None, **settings: Any) -> None:
        super().__init__(own, others, **settings)
        self.momentum = momentum

    def call(self, inputs: dict[str, Any], training: bool = True) -> Any:
        """Logits (n, 1)."""
        discriminator, mean = self.others
        if self.momentum is not None:
            self._average(mean)
        wanted = inputs.get("wanted")
        made = _called(self.own, inputs["latent"] if wanted is None else [inputs["latent"], wanted], keep=True)
        return self.judged(discriminator, made, inputs["numbers"], wanted, keep=False)

    def compute_loss(self, x: Any = None, y: Any = None, y_pred: Any = None, *_: Any, **__: Any) -> Any:
        """Low where the discriminator takes the images for real."""
        return -ops.mean(y_pred) if self.loss_name == "hinge" else ops.mean(ops.softplus(-y_pred))

    def _average(self, mean: keras.Model) -> None:
        share = ops.minimum(self.momentum, (1 + self.count) / (10 + self.count))
        for kept, now in zip(mean.variables, self.own.variables, strict=True):
            kept.assign(share * kept + (1 - share) * ops.stop_gradient(now.value))
        self.count.assign(self.count + 1)


def _called(network: keras.Model, inputs: Any, *, keep: bool) -> Any:
    """The network's output in training; of what the call would write, only state that is no weight is kept, if at all.

    ``keras.layers.SpectralNormalization`` writes its divided kernel over the one that is trained. Without that the
    gradient goes through the division as its authors have it, on every backend.
    """
    output, state = network.stateless_call(
        [one.value for one in network.trainable_variables], [one.value for one in network.non_trainable_variables],
        inputs, training=True,
    )  # fmt: skip
    if keep:
        for variable, value in zip(network.non_trainable_variables, state, strict=True):
            variable.assign(value)
    return output
