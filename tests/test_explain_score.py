"""Score: the table lies between chance and the masks, and says in words which methods pass."""

import itertools

import keras
import numpy as np
import pytest

from medlab import explain
from medlab.explain.asking import waiting
from medlab.explain.checks import scoring
from medlab.explain.maps import methods
from tests.explained import images, network

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

L = keras.layers


def test_score_lies_between_chance_and_the_masks():
    n = 24
    x = images(n, 16, 16, 1)
    masks = np.zeros((n, 16, 16), np.uint8)
    masks[:, 4:8, 2:10] = 1  # 32 of 256
    masks[0] = 0
    table = explain.score(network(), x, methods=("grad_cam", "saliency"), masks=masks, steps=2, n_boot=200)
    assert list(table.columns) == ["value", "low", "high", "n"]
    assert list(table.index.unique("method")) == ["grad_cam", "saliency", "random", "edges", "mask"]
    for rule in ("pointing_game", "mass_inside", "iou"):
        assert tuple(table.loc[("mask", rule)]) == (1, 1, 1, n - 1)
    assert abs(table.loc[("random", "mass_inside"), "value"] - 32 / 256) < 0.01
    assert table.loc[("random", "pointing_game"), "value"] < 0.4
    assert (table["low"] <= table["value"]).all()
    assert (table["value"] <= table["high"]).all()
    assert table.loc[("grad_cam", "randomization"), "n"] <= n
    assert ("edges", "randomization") not in table.index
    assert ("edges", "deletion") in table.index
    again = explain.score(network(), x, methods=("grad_cam", "saliency"), masks=masks, steps=2, n_boot=200)
    assert table.equals(again)


def test_score_without_masks_with_an_own_method_and_one_case():
    def center(model, x, *, target, batch_size):
        heat = np.zeros(x.shape[:-1], "float32")
        heat[:, 8, 8] = 1
        return heat

    class Own(keras.Model):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def call(self, x):
            return self.inner(x)

    own = Own(network())
    own(images(1, 16, 16, 1))
    table = explain.score(own, images(3, 16, 16, 1), steps=0)
    assert table.loc[("grad_cam", "randomization"), "n"] == 0
    named = explain.score(own, images(3, 16, 16, 1), methods={"last": explain.grad_cam, "middle": center}, steps=0)
    assert list(named.index) == [
        *itertools.product(("last", "middle"), ("sparseness", "randomization")),
        ("random", "sparseness"),
        ("edges", "sparseness"),
    ]
    assert named.loc[("middle", "sparseness"), "value"] == pytest.approx(255 / 256)
    table = explain.score(network(), images(1, 16, 16, 1), methods=(center,), steps=0)
    value, low, high, n = table.loc[("center", "randomization")]
    assert value == pytest.approx(1)
    assert np.isnan([low, high]).all()
    assert n == 1
    with pytest.raises(ValueError, match=r"no method 'gradcam'\. There are: grad_cam, "):
        explain.score(network(), images(1, 16, 16, 1), methods=("gradcam",))
    with pytest.raises(ValueError, match="at least one case"):
        explain.score(network(), images(0, 16, 16, 1))
    with pytest.raises(ValueError, match=r"masks of shape \(1, 16, 16\)\. Received \(1, 16\)"):
        explain.score(network(), images(1, 16, 16, 1), masks=np.ones((1, 16)))
    with pytest.raises(ValueError, match="nothing to score"):
        explain.score(network(), images(1, 16, 16, 1), methods=(), steps=0)
    with pytest.raises(ValueError, match="confidence between 0 and 1"):
        explain.score(network(), images(1, 16, 16, 1), confidence=95)


def looks_at(place, size=(4, 4), steep=8.0):
    """A model whose answer is sigmoid(steep * (the voxel at ``place`` - 1/2))."""
    model = keras.Sequential([keras.Input((*size, 1)), L.Flatten(), L.Dense(1)])
    weights = np.zeros((*size, 1, 1), "float32")
    weights[place] = steep
    model.layers[-1].set_weights([weights.reshape(-1, 1), np.array([-steep / 2])])
    return model


@pytest.mark.parametrize(("size", "place", "elsewhere"), [((4, 4), (1, 2), (3, 0)), ((3, 4, 5), (1, 2, 3), (0, 0, 0))])
def test_all_scores_of_a_model_that_looks_at_one_voxel(size, place, elsewhere):
    pytest.importorskip("skimage", reason="structural similarity comes from scikit-image")
    n, voxels = 5, np.prod(size)
    at = (slice(None), *place)
    x = np.random.default_rng(1).random((n, *size, 1)).astype("float32")
    x[at] = 1.0
    masks = np.zeros((n, *size))
    masks[at] = 2
    model, other = looks_at(place, size), looks_at(elsewhere, size)
    table = explain.score(
        model, x, methods="saliency", masks=masks, target=1, steps=16, scores="all", repeats=[model], others=[other],
        shuffled=other, n_boot=50, progress=False,
    )  # fmt: skip
    of = table["value"].loc["saliency"]
    for name in ("pointing_game", "mass_inside", "iou", "pixel_auprc", "mu_fidelity", "repeatability"):
        assert of[name] == pytest.approx(1, abs=1e-5), name
    assert of["infidelity"] == pytest.approx(0, abs=1e-6)
    assert of["max_sensitivity"] == pytest.approx(0, abs=1e-6)  # the slope of a linear model is the same everywhere
    assert of["sparseness"] == pytest.approx(1 - 1 / voxels)
    # Rank correlation of two maps with one voxel each, elsewhere 0: the correlation of two indicators.
    assert of["label_randomization"] == pytest.approx(-1 / (voxels - 1))
    assert of["reproducibility"] < 0.9
    assert of["insertion"] > 0.9
    for name in ("deletion", "insertion"):
        assert of[name] == pytest.approx(table["value"].loc[("mask", name)], abs=1e-6), name
    assert of["deletion"] < table["value"].loc[("random", "deletion")] - 0.1
    assert of["road"] > table["value"].loc[("random", "road")]
    assert of["seconds"] > 0
    assert table.loc[("mask", "share"), "value"] == pytest.approx(1 / voxels)
    assert table["n"].loc["saliency"].drop(["cascade", "infidelity"]).eq(n).all()
    assert set(of.index) == set(scoring.SCORES)
    # Floors and ceiling have what can be said of a map alone, and nothing of a method.
    assert set(table.loc["edges"].index) == {*scoring.LOCALIZATION, "deletion", "insertion", "road", "infidelity",
                                             "mu_fidelity", "sparseness"}  # fmt: skip
    assert table.loc[("random", "pixel_auprc"), "value"] < 0.6


def test_a_case_scores_the_same_alone_and_in_any_batch():
    model, x = network(), images(5, 16, 16, 1)
    masks = np.zeros((5, 16, 16))
    masks[:, 3:9, 4:8] = 1
    asked = {"methods": ("grad_cam",), "steps": 3, "scores": ["infidelity", "mu_fidelity", "insertion", "pixel_auprc"]}
    whole = explain.score_cases(model, x, masks=masks, **asked)["grad_cam"]
    small = explain.score_cases(model, x, masks=masks, batch_size=2, **asked)["grad_cam"]
    first = explain.score_cases(model, x[:1], masks=masks[:1], **asked)["grad_cam"]
    assert list(whole.columns) == ["pixel_auprc", "insertion", "infidelity", "mu_fidelity"]
    np.testing.assert_allclose(small, whole, rtol=2e-4, atol=2e-5)
    np.testing.assert_allclose(first, whole[:1], rtol=2e-4, atol=2e-5)


def test_a_table_for_a_target_function_and_for_several_inputs():
    """Of a map of logits the sum at one place; of image and age the image is explained, and age stays."""
    model = keras.Sequential([keras.Input((6, 6, 1)), L.Conv2D(2, 1, use_bias=False)])
    model.set_weights([np.array([[[[1.0, 3.0]]]])])
    masks = np.zeros((3, 6, 6))
    masks[:, 2:4, 1:3] = 1
    x = images(3, 6, 6, 1) + 10 * masks[..., None].astype("float32")
    table = explain.score(
        model, x, methods="saliency", masks=masks, target=lambda y: y[:, 2:4, 1:3, 1], steps=2,
        scores=["pixel_auprc", "insertion", "infidelity"],
    )["value"]  # fmt: skip
    assert table[("saliency", "pixel_auprc")] == pytest.approx(1)
    assert table[("saliency", "insertion")] == pytest.approx(table[("mask", "insertion")])
    image, age = keras.Input((6, 6, 1), name="image"), keras.Input((1,), name="age")
    both = keras.Model([image, age], L.Dense(1)(L.Concatenate()([L.Flatten()(image), age])))
    both.set_weights([np.append(masks[0].ravel(), 100.0).reshape(-1, 1), np.zeros(1)])
    table = explain.score(
        both, [x, np.ones((3, 1), "float32")], methods="saliency", masks=masks, target=1, steps=0,
        scores=["pixel_auprc", "mu_fidelity", "max_sensitivity", "cascade"],
    )["value"]  # fmt: skip
    assert table[("saliency", "pixel_auprc")] == pytest.approx(1)
    assert table[("saliency", "max_sensitivity")] == pytest.approx(0, abs=1e-6)
    assert table[("mask", "mu_fidelity")] > 0.9
    assert np.isfinite(table[("saliency", "cascade")])


def spots(n, seed, marked):
    """Noise; in every second image a bright spot of 5 x 5 pixels, and in a share of these a marker in the corner."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(n, 16, 16, 1)).astype("float32")
    masks, y = np.zeros((n, 16, 16), bool), np.arange(n) % 2
    for case in np.flatnonzero(y):
        i, j = generator.integers(5, 13, 2)
        masks[case, i - 2 : i + 3, j - 2 : j + 3] = True
        if generator.random() < marked:
            x[case, :2, :2] = 8
    return x + 2 * masks[..., None].astype("float32"), y, masks


def trained(x, y):
    model = keras.Sequential(
        [
            keras.Input((16, 16, 1)),
            L.Conv2D(8, 5, padding="same", activation="relu"),
            L.GlobalMaxPooling2D(),
            L.Dense(1),
        ]
    )
    model.compile(keras.optimizers.Adam(0.03), keras.losses.BinaryCrossentropy(from_logits=True))
    model.fit(x, y, epochs=6, batch_size=32, verbose=0)
    return model


def test_the_table_tells_a_network_that_sees_the_finding_from_one_that_sees_a_marker():
    x, y, _ = spots(256, 0, marked=0)
    new, truth, masks = spots(64, 1, marked=0)
    new, masks = new[truth == 1], masks[truth == 1]
    asked = {"masks": masks, "methods": ("occlusion", "grad_cam"), "target": 1, "steps": 4, "seed": 1}
    fair = explain.score(trained(x, y), new, **asked)
    share = fair.loc[("mask", "share"), "value"]
    assert share == pytest.approx(25 / 256)
    assert fair.loc[("random", "pixel_auprc"), "value"] == pytest.approx(share, abs=0.05)
    assert fair.loc[("grad_cam", "pixel_auprc"), "value"] > 5 * share
    assert explain.verdict(fair).loc["grad_cam", "localization"] == "passes"
    x, y, _ = spots(256, 0, marked=1)
    new, truth, masks = spots(64, 1, marked=1)
    new, masks = new[truth == 1], masks[truth == 1]
    model = trained(x, y)
    cheat = explain.score(model, new, **{**asked, "masks": masks})
    assert cheat.loc[("grad_cam", "pixel_auprc"), "value"] < fair.loc[("grad_cam", "pixel_auprc"), "value"] / 2
    assert cheat.loc[("grad_cam", "pointing_game"), "value"] < 0.1
    marker = np.zeros_like(masks)
    marker[:, :4, :4] = True  # where a filter of 5 x 5 sees the 2 x 2 marker
    found = explain.score(model, new, **{**asked, "masks": marker})
    assert found.loc[("grad_cam", "pointing_game"), "value"] > 0.9


def test_scores_are_asked_for_by_name():
    x = images(2, 16, 16, 1)
    table = explain.score(network(), x, methods="saliency", scores="sparseness")
    assert list(table.index) == [("saliency", "sparseness"), ("random", "sparseness"), ("edges", "sparseness")]
    with pytest.raises(ValueError, match=r"no score 'roar'\. There are: pointing_game, .*; or \"cheap\" or \"all\""):
        explain.score(network(), x, scores=["sparseness", "roar"])
    with pytest.raises(ValueError, match="Expected masks: 'pixel_auprc'"):
        explain.score(network(), x, scores=["pixel_auprc"])
    with pytest.raises(ValueError, match="Expected models in `repeats` for 'repeatability'"):
        explain.score(network(), x, scores=["repeatability"])
    with pytest.raises(ValueError, match=r"methods of other names: \['edges'\]"):
        explain.score(network(), x, methods={"edges": explain.saliency})
    with pytest.raises(ValueError, match="'saliency' twice"):
        explain.score(network(), x, methods=("saliency", explain.saliency))


def test_all_methods_are_those_that_the_model_allows():
    dense = keras.Sequential([keras.Input((8, 8, 1)), L.Flatten(), L.Dense(2)])
    table = explain.score(dense, images(1, 8, 8, 1), methods="all", scores="sparseness")
    there = table.index.unique("method")
    assert {"saliency", "integrated_gradients", "occlusion", "rise", "random", "edges"} <= set(there)
    assert not {"grad_cam", "attention_rollout"} & set(there)
    with pytest.raises(ValueError, match="has none: use saliency"):
        explain.score(dense, images(1, 8, 8, 1), methods="grad_cam")
    with pytest.raises(ValueError, match=r"masks of 0 and above\. Received NaN"):
        explain.score(dense, images(1, 8, 8, 1), masks=np.full((1, 8, 8), np.nan))
    with pytest.raises(ValueError, match="nothing to score"):
        explain.score(dense, images(1, 8, 8, 1), scores=[])


def test_a_progress_bar_is_seen_only_where_it_is_wanted(capsys, monkeypatch):
    monkeypatch.setenv("MEDLAB_HEADLESS", "1")
    assert list(waiting.bar(iter("abc"), "letters", "letter", True, total=3)) == ["a", "b", "c"]
    shown = capsys.readouterr().err
    assert "letters" in shown
    assert "0/3" in shown
    for progress in (False, None):  # None: nobody looks at a captured stream
        assert list(waiting.bar("abc", "letters", "letter", progress)) == ["a", "b", "c"]
        assert capsys.readouterr().err == ""


def test_every_method_of_the_table_is_there():
    for name in methods.METHODS:
        assert methods.find(name) is getattr(explain, name)


def test_a_method_that_draws_the_image_fails_and_edges_are_the_floor():
    def drawn(model, x, *, target, batch_size):
        return methods.edges(x)

    cases = explain.score_cases(network(), images(6, 16, 16, 1), methods={"drawn": drawn}, steps=2)
    table = explain.summary(cases)
    assert explain.verdict(table).loc["drawn", "faithfulness"] == "unclear"  # its interval is that of the floor
    found = explain.verdict(table, cases=cases)
    assert found.loc["drawn", "sanity"] == "fails"
    assert found.loc["drawn", "faithfulness"] == "fails"  # not more than the floor that it is, in any case
    assert found.loc["drawn", "verdict"] == "fails"


def test_only_a_table_of_cases_is_summed_up():
    model, x = network(), images(3, 16, 16, 1)
    cases = explain.score_cases(model, x, steps=1)
    table = explain.summary(cases)
    assert set(table.columns) == {"value", "low", "high", "n"}
    for other, received in ((table, "a table of other columns"), (None, "NoneType")):
        with pytest.raises(ValueError, match=f"Expected the table of score_cases.*Received {received}"):
            explain.summary(other)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"methods": None}, "Expected methods as names or functions.*Received None"),
        ({"methods": 3}, "Received 3"),
        ({"repeats": 3}, r"Expected a list of models in `repeats`\. Received 3"),
        ({"others": ["resnet"]}, r"Expected a list of models in `others`\. Received \['resnet'\]"),
    ],
)
def test_what_is_no_method_and_no_model_is_named(given, match):
    with pytest.raises(ValueError, match=match):
        explain.score(network(), images(2, 16, 16, 1), **given)
