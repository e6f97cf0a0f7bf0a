"""Charts of data: their numbers are those of the images."""

import numpy as np
import pytest

from medlab import view


def test_intensity_curves_have_area_one_and_say_their_means():
    drawn = view.intensity_curves({"dark": [np.zeros((4, 4)), np.ones((4, 4))], "bright": np.full(8, 5.0)}, unit="HU")
    panel = drawn.axes[0]
    stairs = [patch for patch in panel.patches if hasattr(patch, "get_data")]
    for patch in stairs:
        data = patch.get_data()
        assert np.sum(data.values * np.diff(data.edges)) == pytest.approx(1)
    texts = [text.get_text() for text in panel.get_legend().get_texts()]
    assert texts == ["dark: mean 0.5, SD 0.5", "bright: mean 5, SD 0"]
    assert panel.get_xlabel() == "intensity (HU)"
    with pytest.raises(ValueError, match="The group 'none' has none"):
        view.intensity_curves({"none": [np.full((2, 2), np.nan)]})
    with pytest.raises(ValueError, match="at least one group"):
        view.intensity_curves({})
