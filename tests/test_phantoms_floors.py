"""Neither the mean of an image nor a line through its pixels tells the classes of the head phantoms apart."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict

from medlab import phantoms

CASES = 160  # the deviation of an AUC is then about 0.045 by chance


@pytest.mark.parametrize(
    ("name", "window"),
    [("phantom:ms-lesions", None), ("phantom:stroke", (0, 80)), ("phantom:hippocampus", None)],
)
def test_simple_means_do_not_solve_it(name, window):
    found = phantoms.find(name)
    options = found.options(size=64)
    images = [found.render(index, **options)[0].array.astype(float) for index in range(CASES)]
    facts = [found.parameters(index, severity=1.0, seed=0, domain="reference") for index in range(CASES)]
    y = np.array([one["label"] != found.classes[0] for one in facts])
    images = [np.clip(image, *(window or np.percentile(image, (0.5, 99.5)))) for image in images]
    mean = roc_auc_score(y, [image.mean() for image in images])
    assert 0.20 < mean < 0.80
    x = np.stack([(image - image.mean()) / image.std() for image in images])
    x = x.reshape(CASES, 32, 2, 32, 2).mean((2, 4)).reshape(CASES, -1)
    model = LogisticRegression(C=1e-2, max_iter=300)
    scores = cross_val_predict(model, x, y, cv=5, method="decision_function")
    assert roc_auc_score(y, scores) < 0.80


def test_what_a_reader_would_measure_does_solve_it():
    # The truth is in the picture: cases are hard, not impossible.
    found = phantoms.find("phantom:hippocampus")
    facts = [found.parameters(index, severity=1.0, seed=0, domain="reference") for index in range(200)]
    smaller = [-min(one["left_ml"], one["right_ml"]) for one in facts]
    assert roc_auc_score([one["label"] == "atrophy" for one in facts], smaller) > 0.95
    # A lesion is brighter than most of the brain, though gray matter and spots of aging are, too.
    found = phantoms.find("phantom:ms-lesions")
    options = found.options(size=64)
    for index in range(20):
        image, mask = (one.array for one in found.render(index, **options))
        if mask.any():
            assert image[mask > 0].mean() > np.median(image[image > 0.5 * np.percentile(image, 95)])
