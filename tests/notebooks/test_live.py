"""A training in a real JupyterLab in Chromium: the curves appear while the cell runs, and the button ends it."""

import shutil
import time
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from tests.notebooks.test_browser import ARGUMENTS, lab, write  # noqa: F401 - lab is a fixture

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not shutil.which("chromium"), reason="needs Chromium: apt-get install chromium"),
]

CELLS = [
    "import numpy as np\n"
    "from medlab import models, train\n"
    "x = np.random.default_rng(0).normal(size=(64, 12, 12, 1)).astype('float32')\n"
    "model = models.small_cnn((12, 12, 1), width=4)\n"
    "data = x, np.arange(64) % 2",
    "fitted = train.fit(model, data, data, epochs=50_000, batch_size=16, patience=None, run='run')",
    "print('all done:', fitted.stopped, 'after', len(fitted.history))",
]


def test_a_training_shows_its_curves_and_stops_at_a_click(lab, tmp_path):  # noqa: F811
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install '.[test]'")
    write(tmp_path / "training.ipynb", CELLS)
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(
            executable_path=shutil.which("chromium"), args=ARGUMENTS, ignore_default_args=["--headless"]
        )
        page = browser.new_page(viewport={"width": 1400, "height": 1500})
        page.goto(f"{lab}/lab/tree/training.ipynb?reset&token=t", timeout=120_000)
        page.wait_for_selector('.jp-Notebook-ExecutionIndicator[data-status="idle"]', timeout=120_000)
        page.click(".jp-CodeCell .cm-content >> nth=0")
        cell = page.locator(".jp-CodeCell").nth(1)
        for _ in range(6):  # the first click on the menu is now and then dropped
            page.click('.lm-MenuBar-itemLabel:text-is("Run")')
            page.click('.lm-Menu-itemLabel:text-is("Run All Cells")')
            time.sleep(2)
            if page.locator(".jp-InputPrompt", has_text="*").count():
                break
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
        # Nothing is on red ground, as errors are.
        assert not page.locator("[data-mime-type='application/vnd.jupyter.stderr']").count()
        assert not page.locator("[data-mime-type='application/vnd.jupyter.error']").count()
        browser.close()
