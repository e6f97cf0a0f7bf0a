"""What a reader does by hand in a real JupyterLab: gives labels with buttons, moves a generator's sliders."""

from tests.notebooks.jupyterlab import MARKS, changed, opened

pytestmark = MARKS

CELLS = [
    "import numpy as np\n"
    "import medlab as ml\n"
    "images = np.random.default_rng(0).normal(size=(9, 12, 12, 1)).astype('float32')\n"
    "done = []\n"
    "station = ml.view.label_cases(images, [4, 7, 2], ['healthy', 'tumor'], on_done=done.append)",
    "sampler = ml.view.explore_samples(ml.models.gan((12, 12, 1), latent=8, classes=2, width=4), directions=2)",
    "print('all' + ' done')",
    "print('labels', station.indices.tolist(), station.labels.tolist(), len(done))",
]


def test_a_reader_labels_cases_and_moves_a_generator_s_sliders(tmp_path):
    with opened(tmp_path, CELLS, height=2400) as page:
        page.set_default_timeout(60_000)
        page.wait_for_selector(".jp-OutputArea-output >> text=all done", timeout=120_000)
        station, sampler = page.locator(".medlab-labeling"), page.locator(".medlab-sampler")

        picture = station.locator("img")
        picture.wait_for()
        station.locator("text=Case 4, 1 of 3").wait_for()
        before = picture.screenshot()
        station.locator("button", has_text="tumor").click()
        station.locator("text=Case 7, 2 of 3 (the one before: tumor)").wait_for()
        assert changed(picture, before)
        station.locator("button", has_text="healthy").click()
        station.locator("text=Case 2, 3 of 3").wait_for()
        station.locator("button", has_text="Undo").click()
        station.locator("text=Case 7, 2 of 3").wait_for()
        station.locator("button", has_text="Unsure").click()
        station.locator("text=Case 2, 3 of 3 (the one before: unsure)").wait_for()
        station.locator("button", has_text="healthy").click()
        station.locator("text=Done: 2 labeled, 1 left without a label").wait_for()
        assert station.locator("button", has_text="tumor").is_disabled()
        page.locator(".jp-CodeCell").nth(3).locator(".cm-content").click()
        page.keyboard.press("Control+Enter")
        page.wait_for_selector(".jp-OutputArea-output >> text=labels [4, 2] [1, -1, 0] 1")

        picture = sampler.locator("img")
        picture.wait_for()
        start = picture.screenshot()
        sampler.locator(".noUi-handle").first.focus()
        for _ in range(10):
            page.keyboard.press("ArrowRight")
        assert changed(picture, start), "the first slider changes nothing"
        moved = picture.screenshot()
        sampler.locator("button", has_text="Sliders to 0").click()
        assert changed(picture, moved)
        assert picture.screenshot() == start, "the start looks different now"
        sampler.locator("select").select_option("1")
        assert changed(picture, start), "another class is the same image"
        own = picture.screenshot()
        sampler.locator("button", has_text="Other images").click()
        assert changed(picture, own)
