"""The stop button of a training in a real kernel: a click that comes while the cell runs ends it."""

import time

import pytest

pytestmark = pytest.mark.notebook

PREPARE = """
from medlab.backend import keras
from medlab import train
import numpy as np
x = np.random.default_rng(0).normal(size=(64, 8, 8, 1)).astype("float32")
image = keras.Input((8, 8, 1))
model = keras.Model(image, keras.layers.Dense(1)(keras.layers.Flatten()(image)), name="tiny")
data = x, np.arange(64) % 2
"""
TRAIN = """
fitted = train.fit(model, data, data, epochs=20_000, batch_size=8, run="run", patience=None)
print("RESULT", fitted.stopped, len(fitted.history) < 20_000, fitted.best_epoch > 0)
"""
HEADLESS = """
import os
os.environ["MEDLAB_HEADLESS"] = "1"
train.fit(model, data, data, epochs=2, batch_size=8)
"""


@pytest.fixture
def kernel(tmp_path):
    """A client of a running kernel."""
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel(cwd=str(tmp_path))
    try:
        yield client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def run(client, code, *, on_message=lambda message: None, seconds=120):
    """Executes code; all its messages, and the texts of its streams."""
    asked = client.execute(code)
    texts, end = {"stdout": "", "stderr": ""}, time.time() + seconds
    while time.time() < end:
        message = client.get_iopub_msg(timeout=seconds)
        on_message(message)
        if message["msg_type"] == "stream":
            texts[message["content"]["name"]] += message["content"]["text"]
        if message["msg_type"] == "error":
            pytest.fail("\n".join(message["content"]["traceback"])[-3000:])
        ours = message["msg_type"] == "status" and message["parent_header"].get("msg_id") == asked
        if ours and message["content"]["execution_state"] == "idle":
            return texts
    raise TimeoutError(f"not done after {seconds} s: {texts}")


class Finger:
    """Presses the button with the word Stop once the second epoch is drawn; asks for more work before that."""

    def __init__(self, client):
        self.client, self.button, self.pressed, self.bar = client, None, None, {}

    def __call__(self, message):
        content = message["content"]
        state = content.get("data", {}).get("state", {}) if message["msg_type"].startswith("comm_") else {}
        if state.get("_model_name") == "ButtonModel" and state.get("description") == "Stop":
            self.button = content["comm_id"]
        if self.button and self.pressed is None and state.get("value", 0) and isinstance(state["value"], float):
            self.client.execute("print('later')")  # waits for the end of the cell
            press = {"comm_id": self.button, "data": {"method": "custom", "content": {"event": "click"}}}
            self.client.shell_channel.send(self.client.session.msg("comm_msg", press))
            self.pressed = time.time()


def test_the_button_ends_a_running_training(kernel):
    quiet = run(kernel, PREPARE)
    finger = Finger(kernel)
    texts = run(kernel, TRAIN, on_message=finger)
    assert finger.pressed
    assert time.time() - finger.pressed < 20
    assert "RESULT stopped by hand True True" in texts["stdout"]
    assert "call fit again with resume=True to go on" in texts["stdout"]
    assert quiet["stderr"] + texts["stderr"] == ""  # standard error is red in a notebook
    # What was asked for in the meantime is done afterwards, once.
    end, seen = time.time() + 10, ""
    while "later" not in seen and time.time() < end:
        message = kernel.get_iopub_msg(timeout=10)
        seen += message["content"].get("text", "") if message["msg_type"] == "stream" else ""
    assert seen.count("later") == 1
    assert run(kernel, "print(1 + 1)")["stdout"] == "2\n"
    plain = run(kernel, HEADLESS)
    assert plain["stderr"] == ""
    assert sum(line.startswith("epoch ") for line in plain["stdout"].splitlines()) == 2


def test_all_cells_sent_at_once_run_in_their_order(kernel):
    """As JupyterLab's Run All sends them: they wait while the training looks for clicks."""
    train = "train.fit(model, data, data, epochs=30, batch_size=8); order = ['fit']"
    cells = [PREPARE, train, *(f"order.append({n})" for n in range(4)), "print('ORDER', order)"]
    asked, numbers = [kernel.execute(code) for code in cells], {}
    end = time.time() + 120
    while len(numbers) < len(cells) and time.time() < end:
        reply = kernel.get_shell_msg(timeout=120)
        if reply["msg_type"] != "execute_reply":  # a late answer to the question whether the kernel is there
            continue
        assert reply["content"]["status"] == "ok"
        numbers[reply["parent_header"]["msg_id"]] = reply["content"]["execution_count"]
    assert [numbers[one] for one in asked] == [1, 2, 3, 4, 5, 6, 7]
    assert "ORDER ['fit', 0, 1, 2, 3]" in run(kernel, "print('ORDER', order)")["stdout"]
