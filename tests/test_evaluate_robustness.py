"""Stability: predictors whose behavior under an artifact is known in closed form."""

import json

import numpy as np
import pytest
import sklearn.metrics as sk

from medlab import evaluate

N = 60


@pytest.fixture(scope="module")
def images():
    """Positive images are brighter by 1 on a background of deviation 1; y, x (n, 8, 6, 1)."""
    rng = np.random.default_rng(0)
    y = np.arange(N) % 2
    x = rng.normal(size=(N, 8, 6, 1)) * 0.5 + rng.normal(size=(N, 1, 1, 1)) * 0.5 + y[:, None, None, None]
    return x.astype(np.float32), y


def brightness(x):
    return 1 / (1 + np.exp(-(x.mean(axis=(1, 2, 3)) - 0.5)))


def offset(array, *, severity, rng):
    """A random offset of deviation ``severity``."""
    return array + severity * rng.normal()


def invert(array, *, severity, rng):
    return -array


def nothing(array, *, severity, rng):
    return array


def test_a_predictor_that_ignores_the_image_is_stable(images):
    x, y = images
    p = np.random.default_rng(1).random(N)
    queue = {"start": 0}

    def blind(batch):
        start = queue["start"]
        queue["start"] = (start + len(batch)) % N
        return p[start : start + len(batch)]

    result = evaluate.stability(blind, x, y, modality="MR", n=50, progress=False)
    assert result.summary["stability"] == 1
    assert result.summary["mean_drop"] == 0
    assert result.summary["mean_flips"] == 0
    assert result.table["value"].to_numpy() == pytest.approx(sk.roc_auc_score(y, p))
    assert (result.table[["drop", "drop_low", "drop_high"]] == 0).all(axis=None)


def test_known_artifacts_have_known_effects(images):
    x, y = images
    artifacts = {"nothing": nothing, "offset": offset, "invert": invert}
    result = evaluate.stability(
        brightness, x, y, modality=None, artifacts=artifacts, severities=(1, 3, 5), n=100, progress=False
    )
    clean = sk.roc_auc_score(y, brightness(x))
    table = result.table
    assert table.index[0] == ("clean", 0)
    assert table.loc[("clean", 0), "value"] == pytest.approx(clean)
    assert len(table) == 1 + 3 * 3
    assert table.loc["nothing", "value"].to_numpy() == pytest.approx(clean)
    assert (table.loc["nothing", "flips"] == 0).all()
    # Inverted, every pair is ordered the other way round.
    assert table.loc["invert", "value"].to_numpy() == pytest.approx(1 - clean)
    assert table.loc["invert", "drop"].to_numpy() == pytest.approx(2 * clean - 1)
    falling = table.loc["offset", "value"].to_numpy()
    assert clean > falling[0] > falling[1] > falling[2] > 0.4
    accuracy = ((brightness(-x) >= 0.5) == y).mean()
    assert table.loc[("invert", 1), "accuracy"] == pytest.approx(accuracy)
    flips = ((brightness(-x) >= 0.5) != (brightness(x) >= 0.5)).mean()
    assert table.loc[("invert", 1), "flips"] == pytest.approx(flips)
    assert result.summary["worst"] == "invert"
    mean = np.mean([table.loc[name, "value"].mean() for name in artifacts])
    assert result.summary["stability"] == pytest.approx(mean / clean)
    assert result.summary["mean_drop"] == pytest.approx(clean - mean)


def test_intervals_of_the_drop_are_paired(images):
    """Where nothing changes the drop is 0 for certain, though the AUC itself is not certain at all."""
    x, y = images
    result = evaluate.stability(
        brightness, x, y, modality=None, artifacts={"nothing": nothing}, severities=[2], n=200, progress=False
    )
    row = result.table.loc[("nothing", 2)]
    assert (row["drop_low"], row["drop_high"]) == (0, 0)
    assert row["high"] - row["low"] > 0.04
    same = evaluate.classification(y, brightness(x), n=200).table.loc["auc"]
    assert tuple(row[["value", "low", "high"]]) == pytest.approx(tuple(same[["value", "low", "high"]]))


def test_artifacts_depend_on_seed_and_name_alone(images):
    x, y = images

    def run(artifacts, seed=0, severities=(2, 4)):
        options = {"severities": severities, "seed": seed, "n": 20, "progress": False, "modality": None}
        return evaluate.stability(brightness, x, y, artifacts=artifacts, **options).table

    both, alone = run({"invert": invert, "offset": offset}), run({"offset": offset}, severities=(4,))
    assert tuple(both.loc[("offset", 4)]) == tuple(alone.loc[("offset", 4)])
    assert run({"offset": offset}, seed=1).loc[("offset", 4), "value"] != alone.loc[("offset", 4), "value"]


def test_a_case_keeps_its_pattern_over_severities_and_batches(images):
    """Offsets drawn in severities 1 and 5 differ by the factor 5 exactly, whatever the size of a batch."""
    x, y = images
    seen = []

    def spy(batch):
        seen.append(batch.mean(axis=(1, 2, 3)))
        return brightness(batch)

    options = {"artifacts": {"offset": offset}, "severities": (1, 5), "n": 5, "progress": False, "modality": None}
    evaluate.stability(spy, x, y, **options)
    clean, one, five = np.concatenate(seen).reshape(3, N)
    np.testing.assert_allclose(five - clean, 5 * (one - clean), atol=1e-5)
    assert (one - clean).std() == pytest.approx(1, abs=0.25)
    big = np.repeat(np.repeat(x, 50, axis=1), 50, axis=2)
    seen.clear()
    evaluate.stability(spy, big, y, **options)
    assert max(len(batch) for batch in seen) == 35
    np.testing.assert_allclose(np.concatenate(seen)[N:], np.r_[one, five], atol=1e-4)


@pytest.mark.parametrize(
    ("modality", "shape"), [("MR", (8, 6, 1)), ("CT", (8, 6, 5, 1)), ("DX", (9, 7, 3)), (None, (8, 6, 1))]
)
def test_the_standard_artifacts_run_in_two_and_three_dimensions(modality, shape):
    rng = np.random.default_rng(2)
    y = np.arange(12) % 2
    x = (rng.normal(size=(12, *shape)) + 2 * y.reshape(-1, *[1] * len(shape))).astype(np.float32)
    before = x.copy()
    result = evaluate.stability(lambda b: 1 / (1 + np.exp(-b.mean(axis=tuple(range(1, b.ndim))))), x, y,
                                modality=modality, severities=(1, 5), n=20)  # fmt: skip
    np.testing.assert_array_equal(x, before)
    assert result.table["value"].between(0, 1).all()
    assert result.table.index.get_level_values("artifact").nunique() >= 5


def test_contrast_moves_the_decisions_of_a_threshold_on_intensity(images):
    """A network that compares the deviation with a fixed number loses all when contrast falls to a fifth."""
    x, y = images
    rng = np.random.default_rng(3)
    flat = (rng.normal(size=x.shape) * (0.6 + 0.8 * y[:, None, None, None])).astype(np.float32)

    def rough(batch):
        return np.clip(batch.std(axis=(1, 2, 3)) / 2, 0, 1)

    result = evaluate.stability(rough, flat, y, modality="MR", severities=(1, 5), n=20, progress=False)
    contrast = result.table.loc["contrast"]
    assert result.summary["clean"] == 1
    assert contrast.loc[5, "accuracy"] == 0.5
    # The order of deviations is not changed by one factor for all.
    assert contrast.loc[5, "value"] == 1
    assert contrast.loc[5, "flips"] == pytest.approx((rough(flat) >= 0.5).mean())


def test_a_keras_model(images):
    import keras

    x, y = images
    model = keras.Sequential([keras.Input((8, 6, 1)), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(1)])
    model.layers[-1].set_weights([np.ones((1, 1)), np.full(1, -0.5)])
    options = {"modality": None, "artifacts": {"invert": invert}, "severities": (1,), "n": 20, "progress": False}
    by_model, by_function = evaluate.stability(model, x, y, **options), evaluate.stability(brightness, x, y, **options)
    np.testing.assert_allclose(by_model.table, by_function.table, atol=1e-6)


def test_several_classes_and_labels(images):
    x, _ = images
    y = np.arange(N) % 3

    def guess(batch):
        return np.full((len(batch), 3), 1 / 3)

    options = {"modality": None, "artifacts": {"invert": invert}, "severities": (1,), "n": 20, "progress": False}
    result = evaluate.stability(guess, x, y, **options)
    assert result.summary["clean"] == 0.5
    assert result.summary["stability"] == 1
    labels = np.eye(3, dtype=int)[y]
    assert evaluate.stability(guess, x, labels, **options).summary["clean"] == 0.5


def test_one_class_shows_accuracy(images):
    x, _ = images
    options = {"modality": None, "artifacts": {"invert": invert}, "severities": (1,), "n": 20, "progress": False}
    result = evaluate.stability(brightness, x, np.ones(N, int), **options)
    assert result.metric == "accuracy"
    assert result.summary["clean"] == pytest.approx((brightness(x) >= 0.5).mean())
    assert result.notes == ["AUC is undefined for these cases: accuracy is shown instead."]


def test_severity_0_alone_is_the_clean_images(images):
    x, y = images
    result = evaluate.stability(brightness, x, y, modality=None, artifacts={"invert": invert}, severities=[0], n=20,
                                progress=False)  # fmt: skip
    assert result.table.index.tolist() == [("clean", 0)]
    assert result.summary["stability"] == 1
    assert result.summary["worst"] is None
    assert "clean" in str(result)


def test_shown_and_stored(images):
    x, y = images
    options = {"modality": None, "artifacts": {"invert": invert, "offset": offset}, "n": 20, "progress": False}
    result = evaluate.stability(brightness, x, y, groups=np.arange(N) // 2, **options)
    stored = result.to_dict()
    assert json.loads(json.dumps(stored, allow_nan=False)) == stored
    assert stored["stability"] == pytest.approx(result.summary["stability"])
    assert [row["severity"] for row in stored["artifacts"]["offset"]] == [1, 2, 3, 4, 5]
    assert stored["patients"] == N // 2
    assert "worst: invert" in str(result)
    assert "offset" in result._repr_html_()
    assert len(result.plot().axes) >= 1


def test_unusable_arguments(images):
    x, y = images

    def run(predict=brightness, x=x, y=y, **options):
        return evaluate.stability(predict, x, y, **{"modality": None, "progress": False, "n": 5} | options)

    with pytest.raises(ValueError, match=r"Expected severities among 1, 2, 3, 4 and 5. Received \[7\]"):
        run(severities=[7])
    with pytest.raises(ValueError, match="Expected at least one artifact"):
        run(artifacts={})
    with pytest.raises(ValueError, match="Received 60 images and 59 labels"):
        run(y=y[:-1])
    with pytest.raises(ValueError, match=r"Received shape \(60, 8, 6\)"):
        run(x=x[..., 0])
    with pytest.raises(ValueError, match="Received 'brier'"):
        run(metric="brier")
    with pytest.raises(ValueError, match=r"Expected a function or a Keras model. Received str"):
        run(predict="model")
    with pytest.raises(ValueError, match=r"from the artifact 'crop' at severity 1. Received shape"):
        run(artifacts={"crop": lambda array, *, severity, rng: array[1:]})
    with pytest.raises(ValueError, match=r"from the artifact 'hole' at severity 1.*NaN"):
        run(artifacts={"hole": lambda array, *, severity, rng: array * np.nan})
    with pytest.raises(ValueError, match="Are they logits"):
        run(predict=lambda batch: batch.mean(axis=(1, 2, 3)) * 10)
