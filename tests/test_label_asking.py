"""Which case to ask for: scores against their formulas, choices worked by hand, dropout alone drawing."""

import numpy as np
import pytest

from medlab import label, models
from medlab.backend import keras

layers = keras.layers

# On JAX Keras' get_weights hands variables to np.array, whose argument copy they do not know yet.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
LOG2 = np.log(2)


def test_entropy_and_margin_by_hand():
    p = np.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.5, 0.25, 0.25]])
    np.testing.assert_allclose(label.entropy(p), [LOG2, 0, 1.5 * LOG2], atol=1e-12)
    np.testing.assert_allclose(label.margin(p), [1, 0, 0.75], atol=1e-12)


def test_one_probability_is_that_of_the_second_class():
    np.testing.assert_allclose(label.entropy([0.25]), label.entropy([[0.75, 0.25]]))
    np.testing.assert_allclose(label.margin([0.25, 0.5]), [0.5, 1])


def test_several_labels_add_their_entropies_and_the_least_sure_counts():
    p = np.array([[0.5, 0.5], [1.0, 0.25]])
    np.testing.assert_allclose(label.entropy(p, multi_label=True)[0], 2 * LOG2)
    np.testing.assert_allclose(label.margin(p, multi_label=True), [1, 0.5])
    asked = label.next_cases(p, method="entropy", count=1, multi_label=True)
    np.testing.assert_allclose(asked.all_scores, label.entropy(p, multi_label=True))


def test_bald_tells_contradiction_from_ambiguity():
    # Case 0: one draw says 0, the other 1. Case 1: both say one half. Case 2: both are sure.
    p = np.array([[0.0, 0.5, 1.0], [1.0, 0.5, 1.0]])
    np.testing.assert_allclose(label.bald(p), [LOG2, 0, 0], atol=1e-12)
    np.testing.assert_allclose(label.entropy(p.mean(axis=0)), [LOG2, LOG2, 0], atol=1e-12)
    assert label.next_cases(p, method="bald", count=1).indices.tolist() == [0]


def test_the_most_unsure_unlabeled_cases_come_first():
    p = np.array([0.5, 0.9, 0.4, 0.99, 0.55])
    found = label.next_cases(p, method="entropy", count=3, labeled=[0])
    assert found.indices.tolist() == [4, 2, 1]
    np.testing.assert_allclose(found.scores, label.entropy(p)[[4, 2, 1]])
    same = label.next_cases(p, method="margin", count=3, labeled=np.array([True, False, False, False, False]))
    assert same.indices.tolist() == [4, 2, 1]
    np.testing.assert_allclose(same.scores, [0.9, 0.8, 0.2])


def test_cases_that_score_alike_are_taken_by_chance():
    p = np.full(40, 0.5)
    first = [label.next_cases(p, count=1, seed=seed).indices[0] for seed in range(20)]
    assert len(set(first)) > 5
    assert label.next_cases(p, count=1, seed=3).indices[0] == first[3]


def test_random_leaves_labeled_cases_alone_and_asks_for_none_twice():
    found = label.next_cases(np.zeros(10), method="random", count=7, labeled=[0, 1, 2])
    assert sorted(found.indices) == list(range(3, 10))
    assert np.isnan(found.scores).all()


def test_core_set_takes_the_farthest_case_by_hand():
    # On a line: from 0 the farthest is 10, then 4 lies 4 from 0, farther than 7 from 10.
    points = np.array([[0.0], [10.0], [4.0], [7.0]])
    chosen, distances = label.core_set(points, count=3, labeled=[0])
    assert chosen.tolist() == [1, 2, 3]
    np.testing.assert_allclose(distances, [10, 4, 3])
    asked = label.next_cases(method="core_set", features=points, count=3, labeled=[0])
    assert asked.indices.tolist() == [1, 2, 3]


def test_core_set_covers_better_than_chance_and_within_twice_the_best():
    points = np.random.default_rng(0).normal(size=(200, 2))
    chosen, distances = label.core_set(points, count=10, seed=1)
    assert np.isnan(distances[0])
    assert (np.diff(distances[1:]) <= 1e-12).all()

    def radius(centers) -> float:
        return np.linalg.norm(points[:, None] - points[centers][None], axis=2).min(axis=1).max()

    others = [radius(np.random.default_rng(seed).permutation(200)[:10]) for seed in range(200)]
    assert radius(chosen) < min(others)
    assert len(set(chosen.tolist())) == 10


def test_core_set_of_constant_features_is_chance():
    chosen, distances = label.core_set(np.ones((5, 3)), count=4, labeled=[2])
    assert sorted(chosen) == [0, 1, 3, 4]
    assert (distances == 0).all()


def dropping(rate: float = 0.5) -> keras.Model:
    """(4,) ones -> dropout -> their sum, as a logit."""
    start = keras.Input((4,))
    x = layers.Dropout(rate, name="drop")(start)
    return keras.Model(start, layers.Dense(1, kernel_initializer="ones", name="logits")(x))


def test_draws_have_the_values_that_dropout_can_give():
    # Kept units count twice: the logit is 0, 2, 4, 6 or 8, binomial with n = 4 and one half.
    p = label.dropout_draws(dropping(), np.ones((500, 4), np.float32), draws=4)
    logits = np.log(p / (1 - p))
    np.testing.assert_allclose(logits, 2 * np.rint(logits / 2), atol=1e-4)
    shares = [np.mean(np.rint(logits / 2) == kept) for kept in range(5)]
    np.testing.assert_allclose(shares, [1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16], atol=0.045)
    assert abs(np.corrcoef(p[0], p[1])[0, 1]) < 0.2


def test_the_same_seed_draws_the_same_and_the_model_stays():
    model, x = dropping(), np.ones((70, 4), np.float32)
    state = [keras.ops.convert_to_numpy(one.value).copy() for one in model.variables]
    first = label.dropout_draws(model, x, draws=3, seed=5)
    np.testing.assert_array_equal(first, label.dropout_draws(model, x, draws=3, seed=5))
    assert not np.array_equal(first, label.dropout_draws(model, x, draws=3, seed=6))
    for one, old in zip(model.variables, state, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(one.value), old)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(model(x)), 4)


def test_batch_normalization_keeps_its_statistics_while_dropout_draws_inside_models():
    """A nested model: BatchNormalization with mean 1, variance 4 and no batch of its own, then dropout."""
    start = keras.Input((3,))
    norm = layers.BatchNormalization(epsilon=0.0, name="norm")
    inner = keras.Model(start, layers.Dropout(0.5, name="drop")(norm(start)), name="inner")
    norm.moving_mean.assign(np.full(3, 1.0, np.float32))
    norm.moving_variance.assign(np.full(3, 4.0, np.float32))
    image = keras.Input((3,))
    model = keras.Model(image, layers.Dense(1, kernel_initializer="ones")(inner(image)))
    x = np.full((50, 3), 5.0, np.float32)  # normalized: 2; a kept one counts 4
    p = label.dropout_draws(model, x, draws=4)
    logits = np.log(p / (1 - p))
    assert set(np.rint(logits).astype(int).ravel()) == {0, 4, 8, 12}
    np.testing.assert_allclose(logits, np.rint(logits), atol=0.05)


def test_attention_draws_too():
    model = models.vit((8, 8, 1), 3, patch=4, width=8, depth=1, heads=2, dropout=0.3)
    p = label.dropout_draws(model, np.random.default_rng(0).normal(size=(3, 8, 8, 1)), draws=4)
    np.testing.assert_allclose(p.sum(axis=-1), 1, atol=1e-6)
    assert (p.std(axis=0) > 1e-4).all()


def test_a_model_is_asked_as_its_probabilities_are():
    from medlab import evaluate, explain

    model = models.small_cnn((8, 8, 1), 3, width=2, dropout=0.5)
    x = np.random.default_rng(0).normal(size=(9, 8, 8, 1)).astype(np.float32)
    given = evaluate.predict(model, x)
    found = label.next_cases(model, x, count=9)
    assert found.indices.tolist() == np.argsort(-label.entropy(given)).tolist()
    far = label.next_cases(model, x, method="core_set", count=3, labeled=[0])
    assert far.indices.tolist() == label.core_set(explain.features(model, x), count=3, labeled=[0])[0].tolist()
    drawn = label.next_cases(model, x, method="bald", count=9, draws=5, seed=2)
    np.testing.assert_allclose(drawn.all_scores, label.bald(label.dropout_draws(model, x, draws=5, seed=2)))
    assert drawn.scores.max() > 1e-4


def test_errors():
    p = np.full(5, 0.5)
    with pytest.raises(ValueError, match=r"at most 2 cases: 5 there are, 3 of them labeled. Received count=3"):
        label.next_cases(p, count=3, labeled=[0, 1, 2])
    with pytest.raises(ValueError, match=r"count to be a whole number of at least 1. Received 0"):
        label.next_cases(p, count=0)
    with pytest.raises(ValueError, match=r"one of .*entropy.*Received 'guess'"):
        label.next_cases(p, method="guess")
    with pytest.raises(ValueError, match=r"features .*or a model and images"):
        label.next_cases(p, method="core_set")
    with pytest.raises(ValueError, match=r"several draws"):
        label.next_cases(p, method="bald")
    with pytest.raises(ValueError, match=r"two draws or more"):
        label.bald(p[None])
    with pytest.raises(ValueError, match=r"model with Dropout layers"):
        label.dropout_draws(dropping(0.0), np.ones((2, 4)))
    with pytest.raises(ValueError, match=r"images x beside the model"):
        label.next_cases(dropping(), method="bald")
    with pytest.raises(ValueError, match=r"values 0.5 to 3"):
        label.entropy([0.5, 3.0])
    with pytest.raises(ValueError, match=r"with NaN or infinity"):
        label.entropy([0.5, np.nan])
    with pytest.raises(ValueError, match=r"sum to 1. Received one that sums to 1.5"):
        label.entropy([[0.5, 0.5], [1.0, 0.5]])
    with pytest.raises(ValueError, match=r"finite features"):
        label.core_set([[np.nan], [1.0]])
    with pytest.raises(ValueError, match=r"numbers of cases from 0 to 4"):
        label.next_cases(p, labeled=[7])
    with pytest.raises(ValueError, match=r"probabilities, or a model and images"):
        label.next_cases()


def test_a_mask_of_zeros_and_ones_is_not_taken_for_numbers_of_cases():
    p = np.array([0.5, 0.9, 0.4, 0.99, 0.55])
    for mask in ([0, 1, 0, 0, 1], np.array([1, 1, 1, 0, 1])):
        with pytest.raises(ValueError, match=r"5 numbers that are all 0 or 1.*give them as booleans"):
            label.next_cases(p, count=1, labeled=mask)
    with pytest.raises(ValueError, match=r"each once. Received 3, of which 2 differ"):
        label.next_cases(p, count=1, labeled=[4, 2, 4])
    assert sorted(label.next_cases(p, count=3, labeled=[0, 1]).indices) == [2, 3, 4]


def test_core_set_measures_in_any_unit():
    x = np.array([[0.0], [1], [3], [7]])
    for power in (-900, 900):
        chosen, distances = label.core_set(np.ldexp(x, power), count=3, labeled=[0])
        assert chosen.tolist() == [3, 2, 1]
        np.testing.assert_array_equal(np.ldexp(distances, -power), [7, 3, 1])


def test_images_that_do_not_fit_and_other_slips_are_said():
    model = keras.Sequential([keras.Input((4, 4, 1)), layers.Flatten(), layers.Dropout(0.5), layers.Dense(1)])
    for x in (np.zeros((2, 4, 4, 3)), np.zeros((2, 8, 8, 1)), np.full((2, 4, 4, 1), "a")):
        with pytest.raises(ValueError, match=r"Expected finite images of the shape \(None, 4, 4, 1\)"):
            label.dropout_draws(model, x)
        with pytest.raises(ValueError, match=r"Expected finite images"):
            label.next_cases(model, x, method="bald", count=1)
    with pytest.raises(ValueError, match=r"anything with n cases .* Received int"):
        label.next_cases(50, method="random")
    for method in ("entropy", "random", "core_set"):
        with pytest.raises(ValueError, match=r"seed to be a whole number of at least 0. Received -1"):
            label.next_cases(np.full(5, 0.5), method=method, count=1, features=np.eye(5), seed=-1)
