"""Choosing: what is compared with what, what counts as noise, and that test cases decide nothing."""

import json

import keras
import numpy as np
import pandas as pd
import pytest

from medlab import choose, evaluate, train
from medlab.choose import halving, judging
from medlab.train import progress

# On JAX Keras' get_weights hands variables to np.array, whose argument copy they do not know yet.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


def line(n, seed, classes=2, noise=0.5):
    """Images whose class is written in their first pixel, under some noise."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    x = rng.normal(0, noise, size=(n, 4, 4, 1)).astype(np.float32)
    x[:, 0, 0, 0] += y
    return x, y


def linear(seed, outputs=1):
    image = keras.Input((4, 4, 1))
    start = keras.initializers.GlorotUniform(seed)
    flat = keras.layers.Flatten()(image)
    return keras.Model(image, keras.layers.Dense(outputs, kernel_initializer=start, name="logits")(flat), name="linear")


def constant(seed):
    """A network that sees nothing but the last pixel, which says nothing."""
    image = keras.Input((4, 4, 1))
    flat = keras.layers.Flatten()(keras.layers.Cropping2D(((3, 0), (3, 0)))(image))
    return keras.Model(image, keras.layers.Dense(1, name="logits")(flat), name="constant")


GOOD = {"name": "good", "model": linear, "learning_rate": 0.1}
SAME = {"name": "same", "model": linear, "learning_rate": 0.11}
BLIND = {"name": "blind", "model": constant, "learning_rate": 0.1}
DATA, HELD_OUT, TEST = line(320, 0), line(60, 1), line(40, 2)
QUIET = {"progress": False, "precision": "float32", "augment": False}


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """Three candidates in two rounds, in a run folder."""
    folder = tmp_path_factory.mktemp("choose")
    wish = {"candidates": [BLIND, GOOD, SAME], "epochs": 4, "seeds": 2, "run": folder}
    return folder, choose.experiment(DATA, HELD_OUT, **wish, **QUIET)


def test_halving_by_hand():
    assert halving._plan(8, "auto", 2, None) == [4, 2, 1]
    assert halving._plan(6, "auto", 2, None) == [3, 2, 1]
    assert halving._plan(3, "auto", 2, None) == [2, 1]
    assert halving._plan(1, "auto", 2, None) == [1]
    assert halving._plan(8, 1, 2, None) == [1]
    # 8 short, 4 twice as long, 2 four times as long, and those two with one seed more.
    assert halving._work([8, 4, 2], 2) == 8 + 4 * 2 + 2 * 4 + 2 * 4
    # In a minute, eight candidates get no third round: their trainings would be over before they began.
    assert halving._plan(8, "auto", 2, 60.0) == [1]
    assert halving._plan(8, "auto", 2, 600.0) == [4, 2, 1]


def test_the_blind_one_is_out_and_the_two_alike_are_within_noise(three):
    _, found = three
    table = found.table
    assert found.best.name in ("good", "same")
    assert table.index[0] == found.best.name
    assert table.loc["blind", "verdict"] == "worse"
    assert table.loc["blind", "round"] == 1
    assert table.loc["blind", "behind_low"] > 0
    other = next(name for name in ("good", "same") if name != found.best.name)
    assert table.loc[other, "verdict"] == "within noise"
    assert table.loc[[found.best.name, other], "seeds"].tolist() == [2, 2]
    assert any("1 of 2 other candidates is within noise" in note for note in found.notes)


def test_the_numbers_are_those_of_fit_with_the_settings(three):
    _, found = three
    alone = [
        train.fit(found.make_model(seed), DATA, HELD_OUT, **found.settings, seed=seed, progress=False)
        for seed in (0, 1)
    ]  # fmt: skip
    areas = [fit.history["val_auc"].max() for fit in alone]
    row = found.table.iloc[0]
    assert row["mean"] == np.mean(areas)
    assert row["sd"] == pytest.approx(np.std(areas, ddof=1))
    p = evaluate.predict(alone[0].model, HELD_OUT[0])
    assert (row["auc"], row["low"], row["high"]) == pytest.approx(evaluate.bootstrap("auc", HELD_OUT[1], p), abs=1e-6)
    curve = found.curves.query("candidate == @found.best.name and round == 2 and seed == 0")
    np.testing.assert_array_equal(curve["val_auc"], alone[0].history["val_auc"])
    np.testing.assert_allclose(np.asarray(alone[0].model(TEST[0])), np.asarray(found.model(TEST[0])), rtol=1e-6)
    assert not any("budget was a time" in note for note in found.notes), "by epochs the numbers repeat"


def test_the_comparison_is_paired_and_after_equal_training(three):
    """The blind one was trained for two epochs: so was the one it is compared with."""
    _, found = three
    name = found.best.name
    rate = {"good": 0.1, "same": 0.11}[name]
    two = {"epochs": 2, "patience": None, "progress": False, "precision": "float32"}
    a = train.fit(linear(0), DATA, HELD_OUT, learning_rate=rate, **two).model
    keras.utils.set_random_seed(0)
    b = train.fit(constant(0), DATA, HELD_OUT, learning_rate=0.1, **two).model
    wanted = evaluate.compare(HELD_OUT[1], *(evaluate.predict(one, HELD_OUT[0]) for one in (a, b)))
    row = found.table.loc["blind"]
    assert row["behind"] == pytest.approx(wanted.difference, abs=1e-6)
    assert row["behind_low"] == pytest.approx(wanted.low, abs=1e-6)


def test_reasons_are_two_sentences_of_numbers(three):
    _, found = three
    assert set(found.reasons) == {"model", "optimizer", "learning_rate", "loss"}
    assert "within the noise of the validation cases, so that either would do" in found.reasons["learning_rate"]
    assert "No other optimizer than adamw was tried" in found.reasons["optimizer"]
    assert f"{found.table['sd'].iloc[0]:.3f}" in found.reasons["optimizer"]
    assert "binary cross-entropy" in found.reasons["loss"]
    for text in found.reasons.values():
        assert text.count(". ") == 1, text
        assert text.endswith(".")


def test_what_is_finished_is_not_trained_again(three):
    folder, found = three
    made = []

    def counted(seed):
        made.append(seed)
        return linear(seed)

    listed = [BLIND, GOOD | {"model": counted}, SAME | {"model": counted}]
    again = choose.experiment(DATA, HELD_OUT, candidates=listed, epochs=4, seeds=2, run=folder, **QUIET)
    assert made[:2] == [0, 0], "to check them before the first training"
    columns = ["seconds", "auc", "low", "high", "mean", "sd", "behind", "behind_low", "behind_high", "verdict"]
    pd.testing.assert_frame_equal(again.table[columns], found.table[columns])
    np.testing.assert_allclose(np.asarray(again.model(TEST[0])), np.asarray(found.model(TEST[0])), rtol=1e-6)


def test_test_cases_are_judged_once(three, capsys):
    folder, found = three
    first = found.judge(*TEST)
    assert "judged once, on 40 test cases that decided nothing before" in capsys.readouterr().err
    assert first.table.loc["auc", "value"] == train.auc(TEST[1], np.asarray(found.model(TEST[0])))
    assert found.judge(*TEST).table.loc["auc", "value"] == first.table.loc["auc", "value"]
    assert capsys.readouterr().err == ""
    with pytest.raises(ValueError, match="judged on other test cases before"):
        found.judge(*line(40, 3))
    assert json.loads((folder / "judged.json").read_text())["test"]


def test_the_picture_has_every_candidate(three):
    _, found = three
    figure = found.plot()
    axes = figure.get_axes()
    assert [panel.get_title() for panel in axes[:2]] == ["round 1 of 2", "round 2 of 2 (thin: other seeds)"]
    assert [text.get_text() for text in axes[2].get_yticklabels()] == list(found.table.index)
    assert axes[0].get_xlabel() == "epoch"


def test_one_candidate_alone():
    found = choose.experiment(DATA, HELD_OUT, candidates=[GOOD], epochs=2, seeds=1, **QUIET)
    assert found.table["verdict"].tolist() == ["chosen"]
    assert np.isnan(found.table["sd"].iloc[0])
    assert "one seed" in found.reasons["optimizer"]
    assert len(found.plot().get_axes()) == 3


DIVERGES = {"name": "wild", "model": linear, "optimizer": "sgd", "learning_rate": 1e38, "clip": None}


def test_one_that_diverges_is_out_with_the_reason():
    found = choose.experiment(DATA, HELD_OUT, candidates=[DIVERGES, GOOD], epochs=2, seeds=1, **QUIET)
    assert found.best.name == "good"
    assert found.table.loc["wild", "verdict"] == "failed"
    assert np.isnan(found.table.loc["wild", "auc"])
    assert any(note.startswith("wild failed: The loss") for note in found.notes)
    found.plot()


def test_all_that_diverge_are_an_error_that_names_them():
    wild = [DIVERGES, DIVERGES | {"name": "wilder", "learning_rate": 2e38}]
    with pytest.raises(train.DivergedError, match=r"Every candidate failed in round 1 \(wild: .*wilder: .*smaller"):
        choose.experiment(DATA, HELD_OUT, candidates=wild, epochs=2, **QUIET)


def test_a_time_in_which_nobody_gets_through_an_epoch():
    many = np.repeat(DATA[0], 60, axis=0), np.repeat(DATA[1], 60)
    with pytest.raises(ValueError, match=r"No candidate got through its first epoch in its 0.5 s. Give a larger"):
        choose.experiment(many, HELD_OUT, candidates=[GOOD, SAME], budget_seconds=1, batch_size=1, **QUIET)


def test_few_validation_cases_are_said():
    found = choose.experiment(DATA, line(10, 1), candidates=[GOOD], epochs=1, seeds=1, **QUIET)
    assert "rarest class has 5 validation cases: the intervals are wide" in found.notes[0]
    assert (found.table["high"] - found.table["low"]).min() > 0.2


def test_three_classes_and_several_labels():
    data, held_out = line(240, 0, 3), line(45, 1, 3)
    three = {"model": lambda seed: linear(seed, 3), "learning_rate": 0.2}
    found = choose.experiment(data, held_out, candidates=[three | {"name": "a"}], epochs=4, seeds=1, **QUIET)
    p = evaluate.predict(found.model, held_out[0])
    assert found.table.loc["a", "auc"] == pytest.approx(train.auc(held_out[1], p))
    assert found.judge(*line(45, 2, 3)).table.loc["auc", "value"] > 0.7

    both = [(x, np.stack([y > 0, y > 1], axis=1).astype(int)) for x, y in (data, held_out)]
    several = {"name": "two labels", "model": lambda seed: linear(seed, 2), "learning_rate": 0.2}
    found = choose.experiment(*both, candidates=[several], epochs=4, seeds=1, **QUIET)
    p = evaluate.predict(found.model, both[1][0], multi_label=True)
    assert found.table["auc"].iloc[0] == pytest.approx(train.auc(both[1][1], p))


def test_one_factor_at_a_time():
    found = choose.vary(
        DATA, HELD_OUT, "learning_rate", [1e-7, 0.1], base={"model": linear}, epochs=3, seeds=1, **QUIET
    )
    assert found.table["learning_rate"].tolist() == [0.1, 1e-7]
    assert found.table["round"].tolist() == [1, 1]
    assert found.table["epochs"].tolist() == [3, 3]
    assert found.reasons["learning_rate"].startswith("With all else alike, rate 0.1 had +0.")
    with pytest.raises(ValueError, match="at least two values of 'loss'"):
        choose.vary(DATA, HELD_OUT, "loss", ["auto"])


def test_what_counts_as_noise():
    limits = {"p_value": 0.5, "n": 10, "a": 0.9, "b": 0.8, "difference": 0.1}
    for low, high, wanted in ((-0.01, 0.2, "within noise"), (0.01, 0.2, "worse"), (np.nan, np.nan, "cannot be told")):
        one = evaluate.Comparison("delong", "auc", low=low, high=high, **limits)
        assert judging.verdict(one) == wanted


def test_the_list_to_start_from():
    flat = choose.candidates((64, 64, 1), count=6)
    assert flat[0] == {"model": "small_cnn"}
    assert len(flat) == 6
    assert {"model": "small_cnn", "class_weight": "balanced"} in choose.candidates((64, 64, 1), rarest=0.1)
    solid = choose.candidates((16, 16, 8, 1), count=8)
    assert "slice_rnn" in {one["model"] for one in solid}
    # Each can be made for its shape: nothing is trained.
    for shape, listed in (((64, 64, 1), flat), ((16, 16, 8, 1), solid)):
        for one in choose.halving.options.read(listed):
            assert one.maker(shape, 2, False)(0).input_shape[1:] == shape


@pytest.mark.parametrize(
    ("candidates", "message"),
    [
        ([], "list of candidates"),
        ([3], "Expected a candidate as a dict"),
        ([{"model": "smal_cnn"}], "Received 'smal_cnn'. Did you mean 'small_cnn'"),
        (["unet"], "'unet' is for segmentation"),
        ([{"model": "backbone"}], "Expected model_settings"),
        (["EfficientNetB00"], "Expected a network of .*Did you mean 'EfficientNetB0'"),
        ([GOOD, GOOD | {"name": "b", "class_weight": "bal"}], "Candidate 'b': Expected class_weight"),
        ([GOOD, GOOD | {"name": "b", "ema": 3}], "Candidate 'b': Expected ema"),
        ([GOOD, GOOD | {"name": "b", "batch_size": 0}], "Candidate 'b': Expected batch_size"),
        ([GOOD, GOOD | {"name": "b", "patience": 0}], "Candidate 'b': Expected patience"),
        ([GOOD, GOOD | {"name": "b", "clip": -1}], "Candidate 'b': Expected clip"),
        ([{"learning_rte": 1}], "unknown setting 'learning_rte'.*Did you mean 'learning_rate'"),
        ([{"seed": 1}], "'seed' is the experiment's own"),
        ([GOOD, GOOD], "Two candidates are alike: 'good'"),
        ([GOOD | {"optimizer": "adamm"}], "Candidate 'good': There is no optimizer 'adamm'"),
        ([GOOD | {"learning_rate": -1}], "Candidate 'good': Expected learning_rate"),
        ([GOOD | {"schedule": "steps"}], "Candidate 'good': Expected schedule"),
    ],
)
def test_a_mistake_in_a_candidate_is_found_before_the_first_training(candidates, message):
    with pytest.raises(ValueError, match=message):
        choose.experiment(DATA, HELD_OUT, candidates=candidates, epochs=1, **QUIET)


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"budget_seconds": None}, "either budget_seconds or epochs"),
        ({"budget_seconds": -1}, "budget_seconds above 0. Received -1"),
        ({"epochs": 0}, "epochs to be a whole number of at least 1"),
        ({"epochs": 1, "seeds": 0}, "seeds to be a whole number"),
        ({"epochs": 1, "max_seconds": 5}, "max_seconds cannot be given to all"),
    ],
)
def test_errors_of_the_budget(wish, message):
    with pytest.raises(ValueError, match=message):
        choose.experiment(DATA, HELD_OUT, candidates=[GOOD], progress=False, **wish)


ONE = linear(0)


@pytest.mark.parametrize(
    ("training", "validation", "message"),
    [
        (
            DATA,
            (HELD_OUT[0], HELD_OUT[1] * 9),
            r"Validation has the labels \[9\], which training does not have: \[0, 1",
        ),
        (DATA, (HELD_OUT[0], HELD_OUT[1] * 0), "All 60 validation cases have the same label 0.*nothing can be ranked"),
        (DATA, (HELD_OUT[0], np.stack([HELD_OUT[1]] * 2, axis=1)), "Expected validation labels of shape"),
        (DATA, (HELD_OUT[0], HELD_OUT[1].astype(str)), "Expected validation labels of numbers"),
        ((DATA[0], DATA[1].astype(str)), HELD_OUT, "Expected training labels of numbers"),
        ((DATA[0], np.where(DATA[1] > 0, np.nan, 0)), HELD_OUT, "160 training case.* have NaN"),
        ((DATA[0][:0], DATA[1][:0]), HELD_OUT, "Expected training cases: nothing can be learned"),
        (DATA, (HELD_OUT[0][:0], HELD_OUT[1][:0]), "Expected validation cases: the choice is made on them"),
        (DATA, None, r"Expected validation cases as \(x, y\).*NoneType"),
        (DATA, (HELD_OUT[0] * np.nan, HELD_OUT[1]), "60 of 60 validation images hold NaN"),
    ],
)
def test_data_that_rank_nothing_are_refused_before_the_first_training(tmp_path, training, validation, message):
    with pytest.raises(ValueError, match=message):
        choose.experiment(training, validation, candidates=[GOOD], epochs=1, run=tmp_path, **QUIET)
    assert not any(tmp_path.rglob("model.keras"))


def test_more_that_is_refused_before_the_first_training(tmp_path):
    with pytest.raises(ValueError, match=r"one patient for each of the 60 validation cases. Received 1"):
        choose.experiment(DATA, HELD_OUT, candidates=[GOOD], epochs=1, groups=[1], run=tmp_path, **QUIET)
    with pytest.raises(ValueError, match=r"'batchsize' is no setting of medlab.train.fit.*Did you mean 'batch_size'"):
        choose.experiment(DATA, HELD_OUT, candidates=[GOOD], epochs=1, batchsize=3, run=tmp_path, **QUIET)
    with pytest.raises(ValueError, match="gave the same model 'linear' twice"):
        choose.experiment(
            DATA, HELD_OUT, candidates=[GOOD | {"model": lambda seed: ONE}], epochs=1, run=tmp_path, **QUIET
        )
    assert not any(tmp_path.rglob("model.keras"))
    with pytest.raises(ValueError, match=r"at least two values of 'optimizer' to compare. Received None"):
        choose.vary(DATA, HELD_OUT, "optimizer", None)


def test_a_folder_of_other_networks_under_the_same_name_is_refused(three):
    folder, _ = three
    with pytest.raises(ValueError, match=r"finished training in .* had other model. Give"):
        choose.experiment(
            DATA, HELD_OUT, candidates=[BLIND, GOOD | {"model": constant}, SAME], epochs=4, run=folder, **QUIET
        )


def test_after_stop_no_further_training_begins(monkeypatch):
    pressed = {"in": 2, "trainings": 0}

    def begin(self, rows):
        pressed["trainings"] += 1

    monkeypatch.setattr(progress.Progress, "begin", begin)
    monkeypatch.setattr(
        progress.Progress, "stop_asked", lambda self, done: pressed["trainings"] == pressed["in"] and done >= 1
    )
    found = choose.experiment(DATA, HELD_OUT, candidates=[GOOD, BLIND, SAME], epochs=4, seeds=2, **QUIET)
    assert pressed["trainings"] == 2
    assert found.best.name == "good"
    assert found.table.index.tolist() == ["good", "blind"]
    assert found.notes[0].startswith("Stopped by hand in round 1, in blind (seed 0). Not all candidates")
    assert found.model.count_params() == 17


@pytest.mark.parametrize("name", ["projection", "two_and_half_d", "EfficientNetB0"])
def test_every_network_that_make_knows_can_be_a_candidate(name):
    one = choose.halving.options.read([{"model": name}])[0]
    shape = (32, 32, 3) if name == "EfficientNetB0" else (16, 16, 8, 1)
    assert one.name == name
    assert one.maker(shape, 3, False)(0).output_shape == (None, 3)


def test_masks_are_refused():
    x, _ = DATA
    with pytest.raises(ValueError, match=r"labels \(n,\) or \(n, classes\).*train.repeat"):
        choose.experiment((x, (x[..., 0] > 0).astype(int)), HELD_OUT, epochs=1)
