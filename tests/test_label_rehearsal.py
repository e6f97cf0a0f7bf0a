"""A rehearsed loop of asking: what is compared with what, and the arithmetic of its tables."""

import numpy as np
import pytest
from scipy.stats import t

from medlab import evaluate, label, train
from medlab.backend import keras

# On JAX Keras' get_weights hands variables to np.array, whose argument copy they do not know yet.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


def cases(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Bright and dark images."""
    generator = np.random.default_rng(seed)
    y = np.arange(n) % 2
    return (generator.normal(size=(n, 8, 8, 1)) + y[:, None, None, None]).astype(np.float32), y


def make(seed: int) -> keras.Model:
    start = keras.initializers.GlorotUniform(seed)
    return keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(1, kernel_initializer=start)]
    )


@pytest.fixture(scope="module")
def made() -> label.Simulation:
    return label.simulate(
        make, cases(30, 0), cases(40, 1), methods=("margin",), start=4, step=3, rounds=1, seeds=2, epochs=3,
        progress=False,
    )  # fmt: skip


def test_methods_begin_alike_and_ask_for_so_many(made):
    assert set(made.table["method"]) == {"random", "margin"}
    assert made.table["labels"].tolist() == [4, 7] * 4
    for seed in (0, 1):
        first, other = made.asked["random", seed], made.asked["margin", seed]
        np.testing.assert_array_equal(first[:4], other[:4])
        assert set(first[:4] % 2) == {0, 1}
        assert len(set(other.tolist())) == 7
        begun = made.table.query("seed == @seed and round == 0")["auc"]
        assert begun.nunique() == 1


def test_the_tables_are_means_and_t_intervals_over_seeds(made):
    wide = made.table.query("round == 1").pivot_table(index="seed", columns="method", values="auc")
    gain = wide["margin"] - wide["random"]
    half = t.ppf(0.975, 1) * gain.std(ddof=1) / np.sqrt(2)
    row = made.gain.iloc[0]
    np.testing.assert_allclose(
        [row["gain"], row["low"], row["high"]], [gain.mean(), gain.mean() - half, gain.mean() + half]
    )
    mean = made.summary.query("method == 'margin' and labels == 7")["auc"].item()
    assert mean == pytest.approx(wide["margin"].mean())
    assert 0.2 < mean <= 1
    plain = mean + t.ppf(0.975, 1) * wide["margin"].std(ddof=1) / np.sqrt(2)
    high = made.summary.query("method == 'margin' and labels == 7")["high"].item()
    assert high == pytest.approx(min(plain, 1)), "no AUC is above 1"


def test_a_method_asks_and_learns_as_it_would_alone(made):
    """The trainings of one seed by hand: the first model is least sure of what was asked for, the second learned it."""
    (x, y), (held_out, truth) = cases(30, 0), cases(40, 1)
    chosen = made.asked["margin", 1]
    found = []
    for count in (4, 7):
        rows = chosen[:count]
        model = train.fit(make(1), (x[rows], y[rows]), epochs=3, seed=1, progress=False).model
        found.append(evaluate.auc(truth, evaluate.predict(model, held_out)))
        if count == 4:
            left = np.setdiff1d(np.arange(30), rows)
            unsure = np.abs(evaluate.predict(model, x).ravel()[left] - 0.5)
            assert set(chosen[4:]) == set(left[np.argsort(unsure)[:3]])
    assert made.table.query("method == 'margin' and seed == 1")["auc"].tolist() == pytest.approx(found)
    assert found[0] != found[1]


def test_errors():
    pool = cases(20, 0)
    with pytest.raises(ValueError, match=r"one label of each class at the start. Received start=1 for 2 classes"):
        label.simulate(make, pool, pool, start=1, step=2, rounds=1, epochs=1)
    with pytest.raises(ValueError, match=r"at most 20 labels in all.*= 34"):
        label.simulate(make, pool, pool, start=4, step=10, rounds=3, epochs=1)
    with pytest.raises(ValueError, match=r"methods among .*Received \['luck'\]"):
        label.simulate(make, pool, pool, methods="luck", epochs=1)
    with pytest.raises(ValueError, match=r"Expected epochs"):
        label.simulate(make, pool, pool, start=4, step=2, rounds=1)
    with pytest.raises(ValueError, match=r"different seeds"):
        label.simulate(make, pool, pool, seeds=[1, 1], epochs=1)
    with pytest.raises(ValueError, match=r"All 20 labels are 0"):
        label.simulate(make, (pool[0], np.zeros(20, int)), pool, epochs=1)


@pytest.mark.parametrize(("maker", "says"), [
    (lambda: make(0), r"make_model to take a seed.* Received a function that takes \(\)"),
    (lambda seed, width: make(seed), r"Received a function that takes \(seed, width\)"),
    (make(0), "a function that takes a seed and gives a new model. Received Sequential"),
    (None, "Received NoneType"),
])  # fmt: skip
def test_a_maker_that_takes_no_seed_is_named(maker, says):
    with pytest.raises(ValueError, match=says):
        label.simulate(maker, cases(30, 0), cases(40, 1), epochs=1)
