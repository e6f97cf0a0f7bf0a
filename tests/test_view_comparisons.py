"""Methods side by side: each picture shows its own method's heat, and nothing is cut off."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from medlab import view


@pytest.mark.parametrize("shape", [(3, 24, 16, 1), (2, 12, 12, 8, 1)])
def test_a_row_a_case_and_a_column_a_method(shape):
    rng = np.random.default_rng(0)
    x = rng.random(shape, np.float32)
    hot, mask = np.zeros(shape[:-1], np.float32), np.zeros(shape[:-1], bool)
    hot[:, 2:6, 2:6], mask[:, 2:6, 2:6] = 1, True
    figure = view.method_grid(
        x, {"cold": hot * 0, "layer_cam": hot}, mask, [f"p = 0.{n}" for n in range(shape[0])], title="Two methods"
    )
    panels = [panel for panel in figure.axes if panel.images]
    assert len(panels) == 3 * shape[0]
    assert [panel.get_title() for panel in panels[:3]] == ["Image", "cold", "layer cam"]
    assert panels[0].get_ylabel() == "p = 0.0"
    image, cold, warm = (panel.images[0].get_array()[..., :3].astype(float) for panel in panels[:3])
    gray = np.ptp(image, axis=-1) == 0
    # Only the outline is colored where there is no heat; a hot place is colored inside.
    np.testing.assert_array_equal(cold[gray], image[gray])
    assert (np.ptp(warm, axis=-1) > 0).sum() > 1.3 * (~gray).sum()
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    box = figure.get_tightbbox(canvas.get_renderer())
    assert box.x0 > -0.02
    assert box.x1 < figure.get_size_inches()[0] + 0.02


def test_each_method_has_a_map_a_case():
    x = np.zeros((2, 8, 8, 1))
    with pytest.raises(ValueError, match="at least one method"):
        view.method_grid(x, {})
    with pytest.raises(ValueError, match=r"as many heat maps of 'saliency' as images, 2\. Received 1"):
        view.method_grid(x, {"saliency": np.zeros((1, 8, 8))})
