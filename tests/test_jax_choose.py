"""On JAX: an experiment, repeats and the range test give what they give on TensorFlow in kind: the same steps."""

import json
import subprocess

import pytest

from tests.environments import environment

CODE = """
import json, warnings
warnings.simplefilter("error")
import keras, numpy as np
from medlab import choose, train
assert keras.backend.backend() == "jax"
rng = np.random.default_rng(0)
y = np.arange(96) % 2
x = rng.normal(0, 0.5, size=(96, 4, 4, 1)).astype("float32"); x[:, 0, 0, 0] += y
def linear(seed):
    image = keras.Input((4, 4, 1))
    start = keras.initializers.GlorotUniform(seed)
    return keras.Model(image, keras.layers.Dense(1, kernel_initializer=start)(keras.layers.Flatten()(image)))
quiet = {"progress": False, "precision": "float32"}
a, b, c = (x[:48], y[:48]), (x[48:72], y[48:72]), (x[72:], y[72:])
same = {"model": linear, "augment": False}
good, stuck = {"name": "good", "learning_rate": 0.1, **same}, {"name": "stuck", "learning_rate": 1e-9, **same}
found = choose.experiment(a, b, candidates=[stuck, good], epochs=4, seeds=1, **quiet)
found.judge(*c)
curve = train.find_learning_rate(linear(0), a, optimizer="nesterov", low=1e-4, high=10, steps=30)
twice = train.repeat(linear, a, b, c, seeds=(0, 1), epochs=1, **quiet)
print(json.dumps({"best": found.best.name, "rate": curve.suggestion, "rows": len(twice.table)}))
"""


@pytest.mark.jax
def test_choosing_on_jax(jax_python):
    done = subprocess.run([jax_python, "-c", CODE], capture_output=True, text=True, env=environment(), timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["best"] == "good"
    assert 1e-5 < found["rate"] <= 1
    assert found["rows"] == 2
