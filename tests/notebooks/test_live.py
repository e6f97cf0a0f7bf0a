"""A training in a real JupyterLab in Chromium: the curves appear while the cell runs, and the button ends it."""

from io import BytesIO

import numpy as np
from PIL import Image

from tests.notebooks.jupyterlab import MARKS, opened

pytestmark = MARKS

CELLS = [
    "import numpy as np\n"
    "from medlab import models, train\n"
    "x = np.random.default_rng(0).normal(size=(64, 12, 12, 1)).astype('float32')\n"
    "model = models.small_cnn((12, 12, 1), width=4)\n"
    "data = x, np.arange(64) % 2",
    "fitted = train.fit(model, data, data, epochs=50_000, batch_size=16, patience=None, run='run')",
    "print('all done:', fitted.stopped, 'after', len(fitted.history))",
]


def test_a_training_shows_its_curves_and_stops_at_a_click(tmp_path):
    with opened(tmp_path, CELLS) as page:
        cell = page.locator(".jp-CodeCell").nth(1)
        live = cell.locator(".medlab-live-training")
        curves = live.locator("img")
        curves.wait_for(timeout=120_000)
        page.set_default_timeout(90_000)
        page.wait_for_function("() => document.querySelector('.medlab-live-training img').naturalWidth > 300")
        first = curves.get_attribute("src")
        page.wait_for_function("(old) => document.querySelector('.medlab-live-training img').src != old", arg=first)
        assert len(np.unique(np.asarray(Image.open(BytesIO(curves.screenshot()))))) > 20  # something is drawn
        assert "validation AUC" in live.inner_text() or "epoch" in live.inner_text()
        live.locator("button", has_text="Stop").click()
        page.wait_for_selector(".jp-OutputArea-output >> text=all done: stopped by hand after", timeout=60_000)
        assert not live.locator("button").is_visible()
        assert "call fit again with resume=True to go on" in cell.inner_text()
