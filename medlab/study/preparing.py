"""Preparing: cases loaded, split, checked and standardized, noted in the run folder and opened from there again.

In: a data set's name and a run folder. Out: a :class:`medlab.study.Study`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medlab import batches, clean, load, runs
from medlab.cases import SPLITS, Cases, pseudonym, read_csv
from medlab.study import grids
from medlab.study.state import TASKS, Study


def prepare(
    run: str | Path | runs.Run,
    dataset: str | Path,
    *,
    limit: int | None = None,
    size: int | None = None,
    recipe: Any = "auto",
    seed: int = 0,
    options: dict[str, Any] | None = None,
    task: str = "auto",
) -> Study:
    """A study made new: cases loaded, splits assigned, recipe chosen, and all of it noted in the run folder.

    Args:
        run: the run folder.
        dataset: what :func:`medlab.load.dataset` takes.
        limit: at most so many cases a split.
        size: pixels along one side; None keeps the data set's own. For segmentation the images keep their voxels and
            are cropped or padded to it; None then keeps images of one shape, and trains on patches of others.
        recipe: what :func:`medlab.standardize.recipe` takes; ``"auto"``: by the modality; ``"measured"``: proposed from
            the training cases.
        seed: decides the splits, and which cases a limit keeps.
        options: further arguments of the data set.
        task: ``"classification"``, ``"segmentation"``, or ``"auto"``: the former where the cases have labels.

    Raises:
        ValueError: as the stations it calls; an ``options`` that is not a dict; cases that do not suit the task.
    """
    folder = runs.open(run)
    cases = _load(dataset, limit, size, seed, options)
    task = _task(cases, task)
    cases = _complete_splits(cases, seed)
    chosen = batches.recipe_for(cases, recipe)
    voxels: dict[str, Any] = {}
    if task == "segmentation":
        chosen, voxels = grids.measure(cases, chosen, size)
    else:
        _check_classes(cases)
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
        "task": task,
        **voxels,
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
    task: str = "auto",
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
        task: as above.

    Raises:
        ValueError: the folder was prepared from another data set, or the data set has changed since.
    """
    from medlab import standardize

    folder = runs.open(run)
    facts = folder.facts().get("data")
    if facts is None or not folder.cases_path.is_file():
        return prepare(folder, dataset, limit=limit, size=size, recipe=recipe, seed=seed, options=options, task=task)
    if facts["key"] != _key(dataset):
        raise ValueError(
            f"{folder.path.name} was prepared from {facts['dataset']!r}, not from {_public_name(dataset)!r}. "
            "Give that data set, or another run folder."
        )
    was = {"task": "classification"} | facts
    asked = {"limit": limit, "size": size, "options": options or None, "task": None if task == "auto" else task}
    for name, value in asked.items():
        if value is not None and value != was[name]:
            raise ValueError(
                f"{folder.path.name} was prepared with {name}={was[name]!r}, now {name}={value!r} is given. "
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
    added = sorted(set(cases.ids) - set(kept.index))
    if added:
        raise ValueError(
            f"{cases.name!r} has {len(added)} case(s) that {folder.path.name} was not prepared with, the first is "
            f"{added[0]!r}. Prepare the study again with 02_preprocess, or take them out."
        )
    cases = cases.with_table(cases.table.assign(split=cases.table["id"].map(kept)))
    return Study(folder, cases, standardize.Recipe.from_dict(facts["recipe"]), facts["size"], facts)


def _load(dataset: str | Path, limit: int | None, size: int | None, seed: int, options: dict[str, Any] | None) -> Cases:
    """The data set; ``size`` goes to those that come in sizes, files are resized when they become tensors."""
    if not isinstance(options or {}, dict):
        raise ValueError(f"Expected a dict of options for the data set. Received {options!r}.")
    options = dict(options or {})
    for name, value in (("limit", limit), ("size", size)):
        if value is not None and options.get(name, value) != value:
            raise ValueError(f"{name} is given twice: {value} by itself, and {options[name]} among the options.")
    return load.dataset(str(dataset), **{"limit": limit, "size": size, "seed": seed, **options})


def _task(cases: Cases, task: str) -> str:
    """What is to be told apart, images or voxels, after making sure that the cases allow it."""
    if task not in ("auto", *TASKS):
        raise ValueError(f"Expected task 'auto' or one of {TASKS}. Received {task!r}.")
    if task == "auto":
        task = "segmentation" if cases.table["label"].isna().all() and cases.has_masks else "classification"
    if task == "segmentation" and not cases.has_masks:
        raise ValueError(
            f"{cases.name!r} has no masks to learn a segmentation from. Give a folder with images and masks, or a CSV "
            "with a column mask."
        )
    return task


def _complete_splits(cases: Cases, seed: int) -> Cases:
    """Cases with all three splits: those that are given stay, a missing validation part is cut from training."""
    table = cases.table
    stratify = "label" if table["label"].notna().any() else None
    given = set(table["split"].dropna()) if "split" in table else set()
    if given == set(SPLITS) and table["split"].notna().all():
        return cases
    if given == {"train", "test"} and table["split"].notna().all():
        inner = table[table["split"] == "train"].drop(columns="split")
        cut = clean.split(inner, fractions=(0.875, 0.125, 0.0), stratify=stratify, seed=seed).set_index("id")["split"]
        return cases.with_table(table.assign(split=table["id"].map(cut).fillna("test")))
    if given:
        raise ValueError(
            f"Expected the splits train, validation and test, train and test, or none. {cases.name!r} has "
            f"{sorted(given)}{' and cases without one' if table['split'].isna().any() else ''}; complete the table."
        )
    return cases.with_table(clean.split(table.drop(columns="split", errors="ignore"), stratify=stratify, seed=seed))


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
