"""Study: the state that the notebooks of one study share through a run folder.

In: a data set's name and a run folder. Out: cases with splits, their recipe, tensors, and the model of the run. It
only joins the stations in their usual order; each of them can be called without it.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medlab import batches, clean, load, runs
from medlab.cases import SPLITS, Cases, pseudonym, read_csv

if TYPE_CHECKING:
    import keras
    import numpy as np

    from medlab.augment import Policy
    from medlab.standardize import Recipe
    from medlab.train import Fit


@dataclass(frozen=True)
class Study:
    """Cases with splits, the recipe that standardizes them, and the run folder they belong to.

    Attributes:
        run: the run folder.
        cases: every case, with a split each.
        recipe: how an image is standardized.
        size: spatial size that images are brought to, or None to keep their own.
        facts: what ``run.json`` says about the data.
    """

    run: runs.Run
    cases: Cases
    recipe: Recipe
    size: int | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    _made: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict, repr=False)

    def arrays(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """``(x, y)`` of one split: (n, i, j[, k], c) float32 and labels as :meth:`Cases.y` gives them.

        They are made once and kept; both are read-only.
        """
        if split not in self._made:
            x, y = batches.arrays(self.cases, split, recipe=self.recipe, size=self.size)
            x.flags.writeable = y.flags.writeable = False
            self._made[split] = x, y
        return self._made[split]

    def masks(self, split: str) -> np.ndarray:
        """The masks of one split, (n, i, j[, k]) whole numbers, on the same grid as :meth:`arrays`."""
        return batches.masks(self.cases, split, recipe=self.recipe, size=self.size)

    def patients(self, split: str) -> np.ndarray:
        """The patient of each case of one split, (n,): the groups of a bootstrap."""
        return self.cases.subset(split).table["patient"].to_numpy()

    def fingerprint(self) -> str:
        """Twelve digits that change with the cases, their splits and labels, and the recipe."""
        rows = self.cases.table.sort_values("id")[["id", "split", "label"]].to_csv(index=False)
        return pseudonym(f"{rows}{self.recipe.to_dict()}{self.size}")

    @property
    def modality(self) -> str | None:
        """The DICOM code of the images' modality, if it is known."""
        return self.cases.info.get("modality")

    def policy(self, *, seed: int = 0) -> Policy:
        """The augmentation that suits the images' modality and rank."""
        from medlab import augment

        first = self.cases.volume(self.cases.ids[0])
        return augment.policy(self.modality, rank=first.rank, seed=seed)


def prepare(
    run: str | Path | runs.Run,
    dataset: str | Path,
    *,
    limit: int | None = None,
    size: int | None = None,
    recipe: Any = "auto",
    seed: int = 0,
    options: dict[str, Any] | None = None,
) -> Study:
    """A study made new: cases loaded, splits assigned, recipe chosen, and all of it noted in the run folder.

    Args:
        run: the run folder.
        dataset: what :func:`medlab.load.dataset` takes.
        limit: at most so many cases a split.
        size: pixels along one side; None keeps the data set's own.
        recipe: what :func:`medlab.standardize.recipe` takes, or ``"auto"``.
        seed: decides the splits, and which cases a limit keeps.
        options: further arguments of the data set.

    Raises:
        ValueError: as the stations it calls; an ``options`` that is not a dict.
    """
    folder = runs.open(run)
    cases = _load(dataset, limit, size, seed, options)
    cases = _complete_splits(cases, seed)
    _check_classes(cases)
    chosen = batches.recipe_for(cases, recipe)
    facts = {
        "dataset": _public_name(dataset),
        "key": _key(dataset),
        "cases": len(cases),
        "limit": limit,
        "size": size,
        "seed": seed,
        "options": dict(options or {}),
        "classes": cases.classes,
        "modality": cases.info.get("modality"),
        "recipe": chosen.to_dict(),
    }
    Cases(cases.preview().assign(image="-"), cases.classes, cases.name, cases.multi_label).to_csv(folder.cases_path)
    folder.record("data", facts)
    return Study(folder, cases, chosen, size, facts)


def open(  # noqa: A001 - study.open reads like the built-in
    run: str | Path | runs.Run,
    dataset: str | Path,
    *,
    limit: int | None = None,
    size: int | None = None,
    recipe: Any = "auto",
    seed: int = 0,
    options: dict[str, Any] | None = None,
) -> Study:
    """The study of a run folder as it was prepared; a folder without one is prepared now, as :func:`prepare` does.

    Args:
        run: the run folder.
        dataset: the data set that it was prepared from: the folder keeps no path to private images.
        limit: only for a folder that is prepared now, as all that follow.
        size: as above.
        recipe: as above.
        seed: as above.
        options: as above.

    Raises:
        ValueError: the folder was prepared from another data set, or the data set has changed since.
    """
    from medlab import standardize

    folder = runs.open(run)
    facts = folder.facts().get("data")
    if facts is None or not folder.cases_path.is_file():
        return prepare(folder, dataset, limit=limit, size=size, recipe=recipe, seed=seed, options=options)
    if facts["key"] != _key(dataset):
        raise ValueError(
            f"{folder.path.name} was prepared from {facts['dataset']!r}, not from {_public_name(dataset)!r}. "
            "Give that data set, or another run folder."
        )
    for name, value in {"limit": limit, "size": size, "options": options or None}.items():
        if value is not None and value != facts[name]:
            raise ValueError(
                f"{folder.path.name} was prepared with {name}={facts[name]!r}, now {name}={value!r} is given. "
                "Prepare it again with 02_preprocess, or give another run folder."
            )
    cases = _load(dataset, facts["limit"], facts["size"], facts["seed"], facts["options"])
    kept = read_csv(folder.cases_path).table.set_index("id")["split"]
    missing = sorted(set(kept.index) - set(cases.ids))
    if missing:
        raise ValueError(
            f"{len(missing)} case(s) of {folder.path.name} are no longer in {cases.name!r}, the first is "
            f"{missing[0]!r}. Prepare the study again with 02_preprocess."
        )
    table = cases.table[cases.table["id"].isin(kept.index)]
    cases = cases.with_table(table.assign(split=table["id"].map(kept)))
    return Study(folder, cases, standardize.Recipe.from_dict(facts["recipe"]), facts["size"], facts)


def network(study: Study, name: str = "auto", *, seed: int = 0) -> keras.Model:
    """A new network for the study's images.

    Args:
        study: the study.
        seed: start of the random weights.
        name: a function of ``medlab.models``, or ``"auto"``: the one that :func:`medlab.train.plan` proposes.

    Raises:
        ValueError: there is no such network.
    """
    from medlab import models

    chosen = plan(study).model if name == "auto" else name
    if chosen not in models.__all__:
        raise ValueError(f"Expected a network of {', '.join(models.__all__)}, or 'auto'. Received {name!r}.")
    shape = study.arrays("train")[0].shape[1:]
    multi_label = {"multi_label": True} if study.cases.multi_label else {}
    return getattr(models, chosen)(shape, len(study.cases.classes), seed=seed, **multi_label)


def plan(study: Study) -> Any:
    """How to train on the study's cases: what :func:`medlab.train.plan` says of their number and shape."""
    from medlab import train

    x, _ = study.arrays("train")
    return train.plan(len(x), x.shape[1:], len(study.cases.classes))


def fit(
    study: Study,
    *,
    model: str = "auto",
    epochs: int | None = None,
    batch_size: int | None = None,
    augment: bool | None = None,
    seed: int = 0,
    **settings: Any,
) -> Fit:
    """Trains a network on the study's cases and keeps it in the run folder.

    Args:
        study: the study.
        model: as :func:`network` takes it.
        epochs: None takes the plan's, as for the next two.
        batch_size: cases a step.
        augment: whether the training images are changed at random, as suits their modality.
        seed: of weights, order and augmentation.
        **settings: what else :func:`medlab.train.fit` takes.

    Raises:
        ValueError: as the stations it calls.
    """
    from medlab import train

    proposed = plan(study)
    study.run.record("train", {"study": study.fingerprint()})
    augmented = proposed.augment if augment is None else augment
    return train.fit(
        network(study, model, seed=seed),
        study.arrays("train"),
        study.arrays("validation"),
        epochs=proposed.epochs if epochs is None else epochs,
        batch_size=proposed.batch_size if batch_size is None else batch_size,
        augment=study.policy(seed=seed) if augmented else None,
        seed=seed,
        run=study.run,
        **settings,
    )


def model(study: Study, **settings: Any) -> keras.Model:
    """The trained model of a study's run folder; where there is none yet, one is trained now and said so.

    Args:
        study: the study.
        **settings: what :func:`fit` takes, for a training that has to be done now.
    """
    from medlab.backend import keras

    if not study.run.model_path.is_file():
        sys.stderr.write(f"{study.run.path.name} has no trained model yet: training one now.\n")
        fit(study, **settings)
    elif study.run.facts().get("train", {}).get("study") not in (None, study.fingerprint()):
        raise ValueError(
            f"The model in {study.run.path.name} was trained on other cases, splits or another recipe than the folder "
            "has now: its test cases may be cases it has learned. Run 03_train again, or give another run folder."
        )
    return keras.models.load_model(study.run.model_path, compile=False, safe_mode=True)


def _load(dataset: str | Path, limit: int | None, size: int | None, seed: int, options: dict[str, Any] | None) -> Cases:
    """The data set; ``size`` goes to those that come in sizes, files are resized when they become tensors."""
    if not isinstance(options or {}, dict):
        raise ValueError(f"Expected a dict of options for the data set. Received {options!r}.")
    options = dict(options or {})
    for name, value in (("limit", limit), ("size", size)):
        if value is not None and options.get(name, value) != value:
            raise ValueError(f"{name} is given twice: {value} by itself, and {options[name]} among the options.")
    return load.dataset(str(dataset), **{"limit": limit, "size": size, "seed": seed, **options})


def _complete_splits(cases: Cases, seed: int) -> Cases:
    """Cases with all three splits: those that are given stay, a missing validation part is cut from training."""
    table = cases.table
    given = set(table["split"].dropna()) if "split" in table else set()
    if given == set(SPLITS) and table["split"].notna().all():
        return cases
    if given == {"train", "test"} and table["split"].notna().all():
        inner = table[table["split"] == "train"].drop(columns="split")
        cut = clean.split(inner, fractions=(0.875, 0.125, 0.0), seed=seed).set_index("id")["split"]
        return cases.with_table(table.assign(split=table["id"].map(cut).fillna("test")))
    if given:
        raise ValueError(
            f"Expected the splits train, validation and test, train and test, or none. {cases.name!r} has "
            f"{sorted(given)}{' and cases without one' if table['split'].isna().any() else ''}; complete the table."
        )
    return cases.with_table(clean.split(table.drop(columns="split", errors="ignore"), seed=seed))


def _check_classes(cases: Cases) -> None:
    """Refuses splits in which nothing could be learned or judged: with cases of one class alone."""
    if cases.multi_label:
        return
    for split in SPLITS:
        found = cases.subset(split).table["label"].dropna().unique()
        if len(found) < 2:
            raise ValueError(
                f"Expected cases of two classes at least in the split {split!r} of {cases.name!r}. It has only "
                f"{', '.join(map(repr, found)) or 'cases without a label'}; mend the splits, or leave them out."
            )


def _key(dataset: str | Path) -> str:
    """The same for the same data set, however its path is written."""
    path = Path(dataset).expanduser()
    return pseudonym(str(path.resolve()) if path.exists() else str(dataset))


def _public_name(dataset: str | Path) -> str:
    """A name of a named set as it is; of a path only that it is a folder or file, and its pseudonym."""
    text = str(dataset)
    if ":" in text[2:] or not (Path(text).exists() or "/" in text or "\\" in text):
        return text
    return f"{'folder' if Path(text).is_dir() else 'file'} {pseudonym(text)}"
