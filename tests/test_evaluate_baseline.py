"""The floor finds what is linear in the pixels, and nothing else."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from medlab import evaluate
from medlab.evaluate.baseline import _small


def test_block_means_by_hand():
    x = np.arange(16.0).reshape(1, 4, 4, 1)
    np.testing.assert_allclose(_small(x, 2), [[2.5, 4.5, 10.5, 12.5]])
    np.testing.assert_allclose(_small(np.arange(5.0).reshape(1, 5, 1, 1), 2), [[0.5, 3.0]])


@pytest.mark.parametrize("shape", [(12, 10, 1), (6, 5, 4, 1)])
def test_it_sees_brightness_but_no_texture(shape):
    rng = np.random.default_rng(0)
    y = np.arange(300) % 2
    noise = rng.normal(size=(300, *shape))
    brighter = noise + y.reshape(-1, *[1] * len(shape))
    p = evaluate.pixel_baseline((brighter[:200], y[:200]), brighter[200:])
    assert roc_auc_score(y[200:], p) > 0.95
    # The same amount with a random sign a case: a difference that no straight line sees.
    hidden = noise + (y * rng.choice([-1, 1], 300)).reshape(-1, *[1] * len(shape))
    p = evaluate.pixel_baseline((hidden[:200], y[:200]), hidden[200:])
    assert 0.3 < roc_auc_score(y[200:], p) < 0.7


def test_classes_and_labels():
    rng = np.random.default_rng(1)
    y = np.arange(150) % 3
    x = rng.normal(size=(150, 4, 4, 1)) + y.reshape(-1, 1, 1, 1)
    p = evaluate.pixel_baseline((x, y), x)
    assert p.shape == (150, 3)
    np.testing.assert_allclose(p.sum(axis=1), 1)
    assert (p.argmax(axis=1) == y).mean() > 0.7
    labels = np.stack([y > 0, y > 1], axis=1).astype(int)
    assert evaluate.pixel_baseline((x, labels), x).shape == (150, 2)


def test_errors():
    x, y = np.zeros((4, 3, 3, 1)), np.zeros(4, int)
    with pytest.raises(ValueError, match="two classes at least"):
        evaluate.pixel_baseline((x, y), x)
    with pytest.raises(ValueError, match="one shape"):
        evaluate.pixel_baseline((x, y), np.zeros((2, 5, 5, 1)))
