"""The viewers in a real JupyterLab in Chromium, without a network: pictures, sliders and the 3-D scene really show."""

import time
from io import BytesIO

import numpy as np
from PIL import Image

from tests.notebooks.jupyterlab import MARKS, changed, colors, opened

pytestmark = MARKS

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


def test_viewers_show_offline(tmp_path):
    left = set()

    def watch(page, address):
        own = (address, address.replace("http", "ws"), "data:", "blob:")
        page.on("request", lambda request: None if request.url.startswith(own) else left.add(request.url))

    with opened(tmp_path, CELLS, height=3000, look=watch) as page:
        page.wait_for_selector(".jp-OutputArea-output >> text=all done", timeout=240_000)
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
        assert changed(live, before)

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
    assert not left, f"requests left this machine: {sorted(left)[:5]}"
