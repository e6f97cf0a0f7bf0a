"""The viewers in a real JupyterLab in Chromium, without a network: pictures, sliders and the 3-D scene really show."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not shutil.which("chromium"), reason="needs Chromium: apt-get install chromium"),
]

ARGUMENTS = [
    "--no-sandbox", "--headless=new", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
]  # fmt: skip

CELLS = [
    "import medlab as ml\n"
    "cases = ml.dataset('phantom:brain-tumor', n=4, rank=3, size=48)\n"
    "case = cases.ids_of('tumor')[0]\n"
    "volume, mask = cases.volume(case), cases.mask(case)",
    "ml.show(volume, mask=mask)",
    "ml.view.show3d(volume, mask=mask)",
    "import numpy as np\n"
    "places = np.stack(np.meshgrid(range(50), range(40)), -1).reshape(-1, 2)\n"
    "images = np.broadcast_to((np.arange(2000) % 2)[:, None, None, None], (2000, 8, 8, 1))\n"
    "clicked = []\n"
    "found = ml.view.latent_map(places, labels=np.arange(2000) % 2, images=images, window=(0.5, 1),\n"
    "                           on_click=lambda case: (clicked.append(case), print('told', case)))",
    "print('all' + ' done')",
    "print('kept', found.selected, clicked)",
]


def write(path, cells):
    content = [
        {
            "cell_type": "code",
            "source": source,
            "metadata": {},
            "outputs": [],
            "execution_count": None,
            "id": f"c{number}",
        }
        for number, source in enumerate(cells)
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path.write_text(
        json.dumps({"cells": content, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5})
    )


@pytest.fixture
def lab(tmp_path):
    """A JupyterLab of its own over ``tmp_path``: its address."""
    write(tmp_path / "viewers.ipynb", CELLS)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}",
        "--ServerApp.port_retries=0", "--IdentityProvider.token=t", f"--ServerApp.root_dir={tmp_path}",
        "--LabApp.news_url=None", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]  # fmt: skip
    own = {f"JUPYTER_{name}_DIR": str(tmp_path / ".jupyter" / name.lower()) for name in ("CONFIG", "RUNTIME", "DATA")}
    environment = {key: value for key, value in os.environ.items() if key != "MEDLAB_HEADLESS"} | own
    del environment["JUPYTER_DATA_DIR"]  # the kernel and Lab's extensions lie in the environment's own data folder
    with (tmp_path / "lab.log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        try:
            base = f"http://127.0.0.1:{port}"
            for _ in range(120):
                try:
                    urllib.request.urlopen(f"{base}/api?token=t", timeout=1).close()
                    break
                except OSError:
                    time.sleep(0.5)
            yield base
        finally:
            server.terminate()
            server.wait(20)


def colors(screenshot: bytes) -> int:
    """How many different gray values a screenshot has: a blank canvas has a few."""
    return len(np.unique(np.asarray(Image.open(BytesIO(screenshot)).convert("L"))))


def test_viewers_show_offline(lab):
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install '.[test]'")
    left = set()
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(
            executable_path=shutil.which("chromium"), args=ARGUMENTS, ignore_default_args=["--headless"]
        )
        page = browser.new_page(viewport={"width": 1400, "height": 3000})
        own = (lab, lab.replace("http", "ws"), "data:", "blob:")
        page.on("request", lambda request: None if request.url.startswith(own) else left.add(request.url))
        page.goto(f"{lab}/lab/tree/viewers.ipynb?reset&token=t", timeout=120_000)
        page.wait_for_selector('.jp-Notebook-ExecutionIndicator[data-status="idle"]', timeout=120_000)
        page.click(".jp-CodeCell .cm-content >> nth=0")
        for _ in range(6):  # the first click on the menu is now and then dropped
            page.click('.lm-MenuBar-itemLabel:text-is("Run")')
            page.click('.lm-Menu-itemLabel:text-is("Run All Cells")')
            time.sleep(2)
            if page.locator(".jp-InputPrompt", has_text="*").count() or page.locator("text=all done").count():
                break
        page.wait_for_selector(".jp-OutputArea-output >> text=all done", timeout=240_000)
        assert not page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.error']").count()
        shown, scene = page.locator(".jp-CodeCell").nth(1), page.locator(".jp-CodeCell").nth(2)

        # The static picture comes first, then the live one, which follows its slider.
        assert shown.locator(".jp-RenderedImage img").count() == 1
        live = shown.locator(".widget-image img, img.widget-image").first
        live.wait_for(timeout=60_000)
        before = live.screenshot()
        assert colors(before) > 30
        slider = shown.locator(".widget-slider .noUi-handle").first
        slider.focus()
        for _ in range(6):
            page.keyboard.press("ArrowRight")
        deadline = time.time() + 20
        while live.screenshot() == before and time.time() < deadline:
            time.sleep(0.5)
        assert live.screenshot() != before

        assert scene.locator(".jp-RenderedImage img").count() == 1
        canvas = scene.locator("canvas").first
        canvas.wait_for(timeout=60_000)
        deadline = time.time() + 60
        while colors(canvas.screenshot()) <= 30 and time.time() < deadline:
            time.sleep(1)
        assert colors(canvas.screenshot()) > 30, "the 3-D canvas stayed blank"

        # The map of 2,000 cases: the pointer shows the image of the case below it, a click and Enter keep cases.
        cell = page.locator(".jp-CodeCell").nth(3)
        assert cell.locator(".jp-RenderedImage img").count() == 1
        places = cell.locator("canvas.medlab-map-points")
        places.wait_for(timeout=60_000)
        places.scroll_into_view_if_needed()
        box = places.bounding_box()
        # Of 562 x 442 pixels a margin of 24 and the border are free; case 50 * row + column counts from below.
        for row, column in ((0, 49), (20, 10)):
            x = box["x"] + 1 + 24 + (560 - 48) * column / 49
            page.mouse.move(x, box["y"] + 1 + 440 - 24 - (440 - 48) * row / 39)
            assert places.get_attribute("data-hovered") == str(50 * row + column)
            said = cell.locator(".medlab-map-text").inner_text()
            assert said == f"case {50 * row + column}, {column % 2}"
            gray = np.asarray(Image.open(BytesIO(cell.locator("canvas.medlab-map-picture").screenshot())).convert("L"))
            assert abs(float(np.median(gray)) - 255 * (column % 2)) <= 1
        page.mouse.down()
        page.mouse.up()
        places.focus()
        for key in ("ArrowRight", "ArrowUp", "Enter"):  # one to the right, one up
            page.keyboard.press(key)
        assert places.get_attribute("data-hovered") == str(50 * 21 + 11)
        assert cell.locator(".medlab-map-kept button").count() == 2
        cell.locator("text=told 1061").wait_for(timeout=20_000)
        page.locator(".jp-CodeCell").nth(5).locator(".cm-content").click()
        page.keyboard.press("Control+Enter")
        page.wait_for_selector(".jp-OutputArea-output >> text=kept [1010, 1061] [1010, 1061]", timeout=20_000)
        browser.close()
    assert not left, f"requests left this machine: {sorted(left)[:5]}"
