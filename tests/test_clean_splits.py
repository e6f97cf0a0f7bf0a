"""Splits: no patient in two, classes at equal rates, the same for the same seed."""

import numpy as np
import pandas as pd
import pytest

from medlab import clean
from medlab.cases import Cases


def patients(n=60, seed=0):
    """A table of n patients with one to five cases each; a third of the patients is ill."""
    rng = np.random.default_rng(seed)
    rows = [
        (f"c{p:03d}_{k}", f"p{p:03d}", "ill" if p % 3 == 0 else "well")
        for p in range(n)
        for k in range(int(rng.integers(1, 6)))
    ]
    return pd.DataFrame(rows, columns=["id", "patient", "label"])


def test_no_patient_in_two_splits_for_100_seeds():
    table = patients()
    for seed in range(100):
        parts = clean.split(table, seed=seed).groupby("patient")["split"].nunique()
        assert (parts == 1).all(), f"seed {seed}"


def test_fractions_and_class_rates_are_kept_for_100_seeds():
    table = patients(n=100)
    rate = (table["label"] == "ill").mean()
    for seed in range(100):
        done = clean.split(table, fractions=(0.6, 0.2, 0.2), seed=seed)
        shares = done["split"].value_counts(normalize=True)
        for name, wanted in (("train", 0.6), ("validation", 0.2), ("test", 0.2)):
            assert abs(shares[name] - wanted) < 0.02, f"seed {seed}"
            assert abs((done[done["split"] == name]["label"] == "ill").mean() - rate) < 0.04, f"seed {seed}"


def test_one_case_a_patient_gives_exact_counts():
    table = pd.DataFrame({"id": [f"{i}" for i in range(100)], "label": ["a"] * 30 + ["b"] * 70})
    done = clean.split(table, by=None)
    counts = pd.crosstab(done["split"], done["label"])
    assert counts.loc["train"].tolist() == [21, 49]
    assert counts.loc["validation"].tolist() == [3, 7]
    assert counts.loc["test"].tolist() == [6, 14]


def test_large_patients_are_not_all_in_training():
    table = pd.DataFrame({"patient": np.repeat(np.arange(40), np.where(np.arange(40) < 20, 20, 1)), "label": "a"})
    table["size"] = table.groupby("patient")["patient"].transform("size")
    done = clean.split(table, fractions=(0.5, 0.25, 0.25), stratify=None)
    large = done[done["size"] == 20].groupby("split")["patient"].nunique()
    assert large.to_dict() == {"train": 10, "validation": 5, "test": 5}


def test_the_order_of_the_rows_does_not_matter():
    table = patients()
    straight = clean.split(table, seed=3).set_index("id")["split"]
    shuffled = clean.split(table.sample(frac=1, random_state=1), seed=3).set_index("id")["split"]
    assert shuffled.loc[straight.index].tolist() == straight.tolist()
    rows = clean.split(table, by=None, seed=3).set_index("id")["split"]
    turned = clean.split(table.iloc[::-1], by=None, seed=3).set_index("id")["split"]
    assert turned.loc[rows.index].tolist() == rows.tolist()


def test_another_seed_gives_another_split_and_the_argument_stays_as_it_was():
    table = patients()
    before = table.copy()
    one, two = clean.split(table, seed=0), clean.split(table, seed=1)
    assert (one["split"] != two["split"]).any()
    assert one["split"].equals(clean.split(table, seed=0)["split"])
    pd.testing.assert_frame_equal(table, before)
    assert one.index.equals(table.index)


def test_each_split_gets_each_class_even_if_three_patients_carry_it():
    rows = [(f"p{i}", "rare" if i < 3 else "common") for i in range(200)]
    table = pd.DataFrame(rows, columns=["patient", "label"])
    for seed in range(30):
        done = clean.split(table, seed=seed)
        assert done[done["label"] == "rare"]["split"].nunique() == 3, f"seed {seed}"


def test_patients_with_two_classes_and_multi_label_cases():
    table = pd.DataFrame({"patient": [f"p{i // 2}" for i in range(120)], "label": ["a|b", "none", "b", "a"] * 30})
    done = clean.split(table, seed=5)
    assert (done.groupby("patient")["split"].nunique() == 1).all()
    for split in ("train", "validation", "test"):
        names = set("|".join(done[done["split"] == split]["label"]).split("|"))
        assert names == {"a", "b", "none"}


def test_a_fraction_of_zero_leaves_a_split_empty():
    done = clean.split(patients(), fractions=(0.8, 0, 0.2))
    assert set(done["split"]) == {"train", "test"}


def test_the_result_is_a_table_of_cases():
    table = patients().assign(image="x")
    cases = Cases(table, ["ill", "well"])
    assert len(cases.with_table(clean.split(cases.table)).subset("test")) > 0


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        ({}, {"fractions": (0.7, 0.2, 0.2)}, "sum to 1"),
        ({}, {"fractions": (0.7, 0.3)}, "three fractions"),
        ({}, {"fractions": (1.2, -0.2, 0)}, "0 or above"),
        ({}, {"by": "person"}, "No column 'person'"),
        ({}, {"stratify": "diagnosis"}, "No column 'diagnosis'"),
        ({"label": "ill"}, {}, "at least two classes"),
        ({"label": None}, {}, "have no 'label'.*c000_0"),
        ({"patient": None}, {}, "have no 'patient'"),
        ({"patient": ["one"] + ["two"] * 3}, {"stratify": None}, r"at least 3 patients for 3 splits\. There are 2"),
    ],
)
def test_errors_say_what_is_wrong(change, arguments, message):
    table = patients()
    if "patient" in change and change["patient"] is not None:
        table = table.head(4)
    table = table.assign(**change)
    with pytest.raises(ValueError, match=message):
        clean.split(table, **arguments)


def test_a_class_with_too_few_patients_is_an_error():
    rows = [(f"p{i}", "rare" if i < 2 else "common") for i in range(50)]
    table = pd.DataFrame(rows, columns=["patient", "label"])
    with pytest.raises(ValueError, match="'rare' has 2 patients for 3 splits: a split would leave a class empty"):
        clean.split(table)
    assert clean.split(table, fractions=(0.5, 0, 0.5))["split"].nunique() == 2
    assert clean.split(table, stratify=None)["split"].nunique() == 3


def test_something_that_is_no_table_is_an_error():
    with pytest.raises(ValueError, match=r"cases\.with_table\(clean\.split"):
        clean.split(Cases(patients().assign(image="x"), ["ill", "well"]))
    with pytest.raises(ValueError, match="empty"):
        clean.split(patients().head(0))
