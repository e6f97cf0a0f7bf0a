"""Several devices and several processes on JAX, really run: logical CPU devices, and processes on the loopback."""

import os
import socket
import subprocess

import numpy as np
import pytest

from tests.environments import environment
from tests.test_train_cluster import check_two_devices, told

PROCESS = """
import sys, warnings
warnings.simplefilter("error")
import numpy as np
from medlab import models, train

folder, rank = sys.argv[1:]
if rank != "alone":
    processes, number = train.connect()
    assert (processes, str(number)) == (2, rank)
rng = np.random.default_rng(0)
y = np.arange(20) % 2
x = (rng.normal(size=(20, 8, 8, 1)) + y[:, None, None, None]).astype(np.float32)
network = models.small_cnn((8, 8, 1), 2, width=2, dropout=0.2)
if rank == "1":
    for one in network.trainable_variables:
        one.assign(one + 1)
wish = dict(batch_size=8, ema=0.7, learning_rate=0.001, patience=None, run=folder + "/run")
fitted = train.fit(network, (x, y), (x[:5], y[:5]), epochs=2, **wish)
weights = [np.asarray(one) for one in fitted.model.variables]
np.savez(f"{folder}/{rank}.npz", *weights, history=fitted.history[["loss", "val_loss"]].to_numpy())
print("DEVICE", fitted.device)
if rank != "alone":
    again = train.fit(network, (x, y), (x[:5], y[:5]), epochs=2, resume=True, **wish)
    assert again.seconds < fitted.seconds and len(again.history) == 2
    for wrong, message in (
        (lambda: train.connect(), "connected already"),
        (lambda: train.fit(network, (x, y), epochs=1, max_seconds=5), "max_seconds is for one process"),
        (lambda: train.fit(network, (x, y), epochs=1, devices="cpu:0"), "train on all their devices"),
        (lambda: train.fit(network, (x, y), epochs=1, batch_size=3), "2 devices can share alike"),
        (lambda: train.find_learning_rate(network, (x, y)), "in one process alone"),
    ):
        try:
            wrong()
        except ValueError as error:
            assert message in str(error), error
        else:
            raise AssertionError(message)
"""


@pytest.mark.jax
def test_two_devices_learn_the_weights_of_one(jax_python, tmp_path):
    said = told(jax_python, tmp_path / "run", "jax", XLA_FLAGS="--xla_force_host_platform_device_count=2")
    check_two_devices(said)


@pytest.mark.jax
def test_two_processes_learn_the_weights_of_one(jax_python, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    known = environment()
    (tmp_path / "single").mkdir()
    alone = subprocess.run(
        [jax_python, "-c", PROCESS, str(tmp_path / "single"), "alone"], env=known, capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip
    assert alone.returncode == 0, alone.stderr[-3000:]
    (tmp_path / "pair").mkdir()
    known |= {"KERAS_DISTRIBUTION_JOB_ADDRESSES": f"127.0.0.1:{port}", "KERAS_DISTRIBUTION_NUM_PROCESSES": "2"}
    pair = [
        subprocess.Popen(
            [jax_python, "-c", PROCESS, str(tmp_path / "pair"), rank],
            env=known | {"KERAS_DISTRIBUTION_PROCESS_ID": rank}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    ]  # fmt: skip
    try:
        outputs = [one.communicate(timeout=300) for one in pair]
    finally:
        for one in pair:
            one.kill()
    for process, (_, errors) in zip(pair, outputs, strict=True):
        assert process.returncode == 0, errors[-3000:]
    assert "DEVICE 2 x logical CPU device in 2 processes" in outputs[1][0]
    assert "epoch 2/2" in outputs[0][1]
    assert "epoch 2/2" not in outputs[1][1]  # the first process alone shows progress
    first, second = (np.load(tmp_path / "pair" / f"{rank}.npz") for rank in "01")
    single = np.load(tmp_path / "single" / "alone.npz")
    assert sorted(os.listdir(tmp_path / "pair" / "run")) == sorted(os.listdir(tmp_path / "single" / "run"))
    for name in first.files:
        # The second began with another network; it got the first one's weights, and both learned the same.
        np.testing.assert_array_equal(first[name], second[name])
        np.testing.assert_allclose(first[name], single[name], rtol=0, atol=1e-5)


@pytest.mark.jax
def test_connecting_is_refused_with_the_reason(jax_python):
    code = """
from medlab import train
for wish in (dict(), dict(address="host", processes=2, rank=0), dict(address="a:1", processes=2, rank=2)):
    try:
        train.connect(**wish)
    except ValueError as error:
        print(error)
import jax
jax.numpy.ones(3).sum()
try:
    train.connect("127.0.0.1:1", 2, 0)
except ValueError as error:
    print(error)
"""
    done = subprocess.run([jax_python, "-c", code], env=environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = done.stdout.splitlines()
    assert lines[0].startswith("Expected a whole number for processes, or in $KERAS_DISTRIBUTION_NUM_PROCESSES.")
    assert lines[1].startswith('Expected an address "host:port"')
    assert lines[2].endswith("Received 'a:1', 2 processes, rank 2.")
    assert "Call train.connect before anything is computed" in lines[3]
