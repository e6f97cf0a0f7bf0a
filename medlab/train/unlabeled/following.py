"""Following: a network and a second one whose weights follow it as a running mean.

In: images for the one and for the other. Out: the outputs of both. Written with Keras alone, for every backend.
"""

from __future__ import annotations

from typing import Any

from medlab.backend import keras
from medlab.train import checkpoint


@keras.saving.register_keras_serializable("medlab")
class Followed(keras.Model):
    """A network beside its follower, the running mean of all its weights (Tarvainen and Valpola 2017).

    The follower is never trained. It sees its images as in prediction, with the running statistics of its batch
    normalization, which are part of the mean (Cai et al. 2021, exponential moving average normalization).

    Args:
        network: the network that is trained.
        follower: another one of the same structure; None makes a copy.
        momentum: what the follower keeps of itself in a step.
    """

    def __init__(
        self, network: keras.Model, follower: keras.Model | None = None, *, momentum: float = 0.99, **settings: Any
    ) -> None:
        super().__init__(**settings)
        self.network, self.momentum = network, momentum
        if follower is None:
            follower = keras.models.clone_model(network)
            for slow, fast in zip(follower.weights, network.weights, strict=True):
                slow.assign(checkpoint.array(fast))  # memory of its own: JAX gives that of a step away
        follower.trainable = False
        self.follower = follower
        self.built = True

    def call(self, inputs: tuple[Any, Any], training: bool | None = None) -> tuple[Any, Any]:
        """What the network says of ``inputs[0]`` and the follower of ``inputs[1]``, after its step in training."""
        own, others = inputs
        made = self.network(own, training=training)
        if training:
            for slow, fast in zip(self.follower.weights, self.network.weights, strict=True):
                if "float" in str(slow.dtype):  # states of random generators are whole numbers
                    value = keras.ops.cast(fast.value, slow.dtype)
                    slow.assign(self.momentum * slow.value + (1 - self.momentum) * value)
        return made, keras.ops.stop_gradient(self.follower(others, training=False))

    def get_config(self) -> dict[str, Any]:
        """Both networks, so that a copy has its own."""
        keep = keras.saving.serialize_keras_object
        networks = {"network": keep(self.network), "follower": keep(self.follower)}
        return {"name": self.name, **networks, "momentum": self.momentum}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Followed:
        """The pair that ``get_config`` described."""
        networks = {name: keras.saving.deserialize_keras_object(config.pop(name)) for name in ("network", "follower")}
        return cls(**networks, **config)
