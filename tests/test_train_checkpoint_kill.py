"""A training that is killed, a disk that fills: what is in the run folder is whole, and training goes on from it."""

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

from medlab import train
from medlab.train import checkpoint, guards

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

ROOT = Path(__file__).resolve().parents[1]


def data(n, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 8, 8, 1)).astype(np.float32)
    y = (x[..., 0] > 0.8).astype(np.int64)
    return x, y


def network(seed=0):
    """All that must be remembered: weights, running statistics, the state of dropout, a stage for deep supervision."""

    def start(number):
        return keras.initializers.GlorotUniform(seed + number)

    image = keras.Input((8, 8, 1))
    fine = keras.layers.Conv2D(4, 3, padding="same", kernel_initializer=start(0))(image)
    fine = keras.layers.Activation("relu")(keras.layers.BatchNormalization(momentum=0.9)(fine))
    coarse = keras.layers.MaxPooling2D()(keras.layers.Dropout(0.2, seed=1)(fine))
    coarse = keras.layers.Conv2D(4, 3, padding="same", kernel_initializer=start(1), name="decode2")(coarse)
    both = keras.layers.Concatenate()([fine, keras.layers.UpSampling2D()(coarse)])
    return keras.Model(image, keras.layers.Conv2D(2, 1, kernel_initializer=start(2), name="logits")(both), name="tiny")


class Shift:
    """An augmentation that follows from its keys alone; ``kill`` ends the process in the second step of that epoch."""

    def __init__(self, kill=None):
        self.kill, self.calls = kill, 0

    def __repr__(self):
        return "shift"

    def __call__(self, x, mask, keys):
        self.calls += keys[0, 1] == self.kill
        if self.calls == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        turn = [int(key.sum() % 3) for key in keys]
        return tuple(np.stack([np.roll(a, n, 0) for a, n in zip(one, turn, strict=True)]) for one in (x, mask))


def fit(run, *, seed=0, kill=None, resume=False, **changes):
    wish = {
        "epochs": 7, "batch_size": 8, "progress": False, "schedule": "plateau", "learning_rate": 1.0, "accumulate": 2,
        "ema": 0.8, "precision": "float32", "patience": None,
    }  # fmt: skip
    return train.fit(
        network(seed), data(40, 0), data(8, 1), run=run, augment=Shift(kill), resume=resume, **{**wish, **changes}
    )


def numbers(history):
    return history.drop(columns="seconds")


def test_a_killed_training_goes_on_with_the_same_numbers(tmp_path):
    whole = fit(tmp_path / "whole")
    assert whole.history["learning_rate"].nunique() > 1  # the plateau schedule has lowered it
    code = f"from tests.test_train_checkpoint_kill import fit; fit({str(tmp_path / 'run')!r}, kill=5)"
    known = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    dead = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={**known, "PYTHONPATH": str(ROOT)}, capture_output=True, timeout=300
    )
    assert dead.returncode == -signal.SIGKILL, dead.stderr[-2000:]
    assert len(pd.read_csv(tmp_path / "run" / "history.csv")) == 5
    assert json.loads((tmp_path / "run" / "run.json").read_text())["train"]["finished"] is False
    # Another start: everything comes from the folder.
    resumed = fit(tmp_path / "run", seed=9, resume=True)
    pd.testing.assert_frame_equal(numbers(resumed.history), numbers(whole.history), check_exact=True)
    for a, b in zip(whole.model.get_weights(), resumed.model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert resumed.best_epoch == whole.best_epoch
    with pytest.raises(ValueError, match=r"had other settings .*accumulate: 2 there, 1 now"):
        fit(tmp_path / "run", resume=True, accumulate=1)


def test_a_file_that_may_not_grow_leaves_the_last_state_whole(tmp_path):
    """A real limit on the size of files stands in for a full disk: the error of the system is of the same kind."""
    fit(tmp_path, epochs=2)
    before = {name: (tmp_path / name).read_bytes() for name in ("last.npz", "model.keras", "history.csv")}
    state = checkpoint.State(rows=[{"epoch": 1, "loss": 1.0}], best_weights=[np.zeros(100_000)])
    large = keras.Sequential([keras.Input((200,)), keras.layers.Dense(200)])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with (
            pytest.raises(
                train.DiskFullError, match=r"No room to write the state in .* Epoch 2 stays. Free some space"
            ),
            guards.room_to_write(tmp_path, "the state", "Epoch 2 stays."),
        ):
            checkpoint.save(tmp_path, state, [], {})
        with (
            pytest.raises(train.DiskFullError, match="No room to write the model"),
            guards.room_to_write(tmp_path, "the model", ""),
        ):
            checkpoint.save_model(large, tmp_path / "model.keras")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    assert not list(tmp_path.glob("*part*"))
    again = fit(tmp_path, epochs=2, resume=True)
    assert len(again.history) == 2


def test_a_disk_that_fills_in_training_is_said_and_training_can_go_on(tmp_path):
    whole = fit(tmp_path / "whole", epochs=3)

    class Full(Shift):
        """The disk fills when the second epoch begins."""

        def __call__(self, x, mask, keys):
            if keys[0, 1] == 1:
                resource.setrlimit(resource.RLIMIT_FSIZE, (3000, hard))
            return super().__call__(x, mask, keys)

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    wish = {"epochs": 3, "batch_size": 8, "progress": False, "schedule": "plateau", "learning_rate": 1.0,
            "accumulate": 2, "ema": 0.8, "precision": "float32", "patience": None, "run": tmp_path / "run"}  # fmt: skip
    try:
        with pytest.raises(train.DiskFullError, match=r"What was saved after epoch 1 stays whole. .* resume=True"):
            train.fit(network(), data(40, 0), data(8, 1), augment=Full(), **wish)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(pd.read_csv(tmp_path / "run" / "history.csv")) == 1
    keras.models.load_model(tmp_path / "run" / "model.keras", safe_mode=True)
    resumed = fit(tmp_path / "run", epochs=3, resume=True)
    pd.testing.assert_frame_equal(numbers(resumed.history), numbers(whole.history), check_exact=True)
