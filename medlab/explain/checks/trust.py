"""Trust: does an explanation deserve to be believed.

In: a Keras model, images (n, i, j[, k], c), masks where there are some, and methods that make heat maps. Out: a table
of methods and scores with intervals, between a floor (chance, edges) and a ceiling (the masks themselves).
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from medlab.backend import keras
from medlab.explain.asking import waiting
from medlab.explain.asking.question import Question
from medlab.explain.asking.targets import Target
from medlab.explain.checks import sanity
from medlab.explain.checks.intervals import mean_with_interval
from medlab.explain.checks.scoring import CHEAP, COSTLY, LOCALIZATION, SCORES, Values, Work
from medlab.explain.maps import methods as known
from medlab.explain.maps.methods import Method, Methods

Columns = dict[tuple[str, str], Values]


def score(
    model: keras.Model,
    x: ArrayLike,
    *,
    methods: Methods = ("grad_cam",),
    masks: ArrayLike | None = None,
    target: Target = None,
    steps: int = 8,
    seed: int = 0,
    n_boot: int = 1000,
    confidence: float = 0.95,
    batch_size: int | None = None,
    scores: str | Sequence[str] = "cheap",
    repeats: Sequence[keras.Model] = (),
    others: Sequence[keras.Model] = (),
    shuffled: keras.Model | None = None,
    groups: ArrayLike | None = None,
    progress: bool | None = None,
) -> pd.DataFrame:
    """A table of how well methods explain a model, each score with its interval over cases.

    Beside the methods stand floors, ``random`` (noise) and ``edges`` (of the image), and with masks a ceiling, the
    ``mask`` itself as a heat map. A method that does not beat ``edges`` explains nothing; see
    :func:`medlab.explain.verdict`.

    | score | asks | good | cost (forward passes a case) |
    |---|---|---|---|
    | pointing_game, mass_inside, iou, pixel_auprc | does the heat lie in the mask (needs masks) | high | 0 |
    | deletion, insertion | does the answer follow the hottest voxels | low, high | steps + 1 each |
    | sparseness | how few voxels hold the heat (Gini index) | - | 0 |
    | randomization | does the map survive random weights | near 0 | one more map |
    | road | the same as deletion, with voxels filled in from their neighbors | high | 10 |
    | infidelity, mu_fidelity | does heat in a region foretell the fall of the score | low, high | 64 for all methods |
    | max_sensitivity | does the map change under invisible noise | low | 8 more maps |
    | cascade | as randomization, layer by layer, averaged over the way | near 0 | up to 8 more maps |
    | label_randomization | does the map survive training on shuffled labels (needs ``shuffled``) | near 0 | one map |
    | repeatability | do models of other seeds give the same maps (SSIM; needs ``repeats``) | high | a map a model |
    | reproducibility | do other architectures (SSIM; needs ``others``) | high | a map a model |
    | seconds | a case, without the first call's compilation | low | one more map |

    Args:
        model: a built Keras model; not changed.
        x: (n, i, j[, k], c) images, standardized as the model expects.
        target: class index, (n,) of them, None for the class predicted for ``x``, or a function of the output.
        methods: names of functions of ``medlab.explain`` that make heat maps, or such functions themselves; a
            mapping of names of your own, such as ``{"early": partial(grad_cam, layer="stage1")}``; or ``"all"`` that
            the model allows (attention rollout needs attention, the CAM family a feature map: they are left out).
        masks: (n, i, j[, k]) true findings, inside where not 0; cases with an empty mask do not count where masks
            are needed.
        steps: of the deletion and insertion curves; 0 leaves them out.
        seed: of noise, random weights and resampling.
        n_boot: resamples of the percentile bootstrap of the mean over cases.
        confidence: of the intervals, between 0 and 1.
        batch_size: cases at a time; by default at most 64, fewer of large images.
        scores: names from the table above; ``"cheap"`` for those up to randomization, ``"all"`` for all that the
            arguments allow. What ``repeats``, ``others`` and ``shuffled`` are given for is always among them.
        repeats: models of the same kind, trained with other seeds.
        others: models of other architectures, trained on the same data.
        shuffled: a model trained on shuffled labels.
        groups: (n,) such as patients, resampled whole.
        progress: True shows a progress bar, False does not; None where it takes long and somebody looks.

    Returns:
        Columns value, low, high, n; rows by (method, score). ``n`` counts the cases where the score is defined; the
        interval is NaN where they are fewer than 2. Where the model cannot be copied, randomization has n = 0.
        Row ("mask", "share") is the masks' share of the image: what chance scores in pointing_game, mass_inside and
        pixel_auprc.

    Raises:
        ValueError: an unknown method or score, no case, masks of another shape, nothing to score, a score that lacks
            its masks or models, or as the methods.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"Expected a confidence between 0 and 1. Received {confidence}.")
    cases = score_cases(
        model, x, methods=methods, masks=masks, target=target, steps=steps, seed=seed, batch_size=batch_size,
        scores=scores, repeats=repeats, others=others, shuffled=shuffled, progress=progress,
    )  # fmt: skip
    return summary(cases, seed=seed, n_boot=n_boot, confidence=confidence, groups=groups)


def score_cases(
    model: keras.Model,
    x: ArrayLike,
    *,
    methods: Methods = ("grad_cam",),
    masks: ArrayLike | None = None,
    target: Target = None,
    steps: int = 8,
    seed: int = 0,
    batch_size: int | None = None,
    scores: str | Sequence[str] = "cheap",
    repeats: Sequence[keras.Model] = (),
    others: Sequence[keras.Model] = (),
    shuffled: keras.Model | None = None,
    progress: bool | None = None,
) -> pd.DataFrame:
    """Every score of every case: what :func:`score` sums up, for paired comparisons and for looking at single cases.

    Arguments and errors as :func:`score`.

    Returns:
        One row a case; columns by (method, score), NaN where the score is undefined. ``medlab.explain.summary`` makes
        the table of :func:`score` from it, ``medlab.explain.difference`` compares two methods.
    """
    question = Question(model, x, target, batch_size=batch_size)
    images = question.images
    if len(question) == 0:
        raise ValueError("Expected at least one case. Received none.")
    if masks is not None:
        if np.shape(masks) != images.shape[:-1]:
            raise ValueError(f"Expected masks of shape {images.shape[:-1]}. Received {np.shape(masks)}.")
        if np.isnan(np.asarray(masks, np.float32)).any():
            raise ValueError("Expected masks of 0 and above. Received NaN.")
    for name, models in (("repeats", repeats), ("others", others)):
        if not isinstance(models, Sequence) or not all(isinstance(one, keras.Model) for one in models):
            raise ValueError(f"Expected a list of models in `{name}`. Received {models!r:.80}.")
    named = known.chosen(methods)
    repeats, others = ([one] if isinstance(one, keras.Model) else list(one) for one in (repeats, others))
    given = {"label_randomization": shuffled is not None, "repeatability": bool(repeats),
             "reproducibility": bool(others)}  # fmt: skip
    asked = _asked(scores, masks is not None, steps, given)
    if not asked or (not named and masks is None and not steps):
        raise ValueError("Expected methods, masks, steps or scores. Received none: there is nothing to score.")
    work = Work(question, x, None if masks is None else np.asarray(masks) != 0, steps, seed)
    with contextlib.suppress(sanity.CopyError):  # a subclassed model: its randomization stays undefined, n = 0
        work.blank = sanity.forgotten(model, seed) if named and "randomization" in asked else None
    work.models = {"label_randomization": [shuffled] if shuffled is not None else [], "repeatability": repeats,
                   "reproducibility": others}  # fmt: skip
    fixed: dict[str, NDArray] = {"random": known.noise(images, seed), "edges": known.edges(images)}
    if work.masks is not None:
        fixed["mask"] = work.masks.astype(np.float32)
    if set(named) & set(fixed):
        raise ValueError(
            f"Expected methods of other names: {sorted(set(named) & set(fixed))} stand in the table anyway."
        )
    found: Columns = {}
    heat, of = None, ""
    for name, title in waiting.bar(list(itertools.product((*named, *fixed), asked)), "explain", "score", progress):
        if name != of:
            heat, of = fixed[name] if name in fixed else _mapped(work, named[name], tolerant=methods == "all"), name
        if heat is None:
            continue
        values = work.of_heat(title, heat)
        if values is None and name in named:
            values = work.of_method(title, named[name], heat)
        if values is not None:
            found[(name, title)] = values
    if work.masks is not None and set(asked) & set(LOCALIZATION):
        found[("mask", "share")] = work.masks.reshape(len(images), -1).mean(axis=1)
    columns = pd.MultiIndex.from_tuples(found, names=["method", "score"])
    return pd.DataFrame(np.stack(list(found.values()), axis=1), columns=columns)


def summary(
    cases: pd.DataFrame,
    *,
    seed: int = 0,
    n_boot: int = 1000,
    confidence: float = 0.95,
    groups: ArrayLike | None = None,
) -> pd.DataFrame:
    """The table of :func:`score` from that of :func:`score_cases`: mean and interval over the cases of each column.

    Args:
        cases: one row a case.
        seed: of the resampling.
        n_boot: resamples of the percentile bootstrap of the mean over cases.
        confidence: of the intervals, between 0 and 1.
        groups: (n,) such as patients, resampled whole.

    Raises:
        ValueError: a confidence out of range, or not one group a case.
    """
    if not isinstance(cases, pd.DataFrame) or cases.columns.nlevels != 2:
        raise ValueError(
            "Expected the table of score_cases, one row a case and columns by (method, score). Received "
            + ("a table of other columns." if isinstance(cases, pd.DataFrame) else f"{type(cases).__name__}.")
        )
    options = {"seed": seed, "n_boot": n_boot, "confidence": confidence, "groups": groups}
    rows = [mean_with_interval(cases[column].to_numpy(), **options) for column in cases.columns]
    return pd.DataFrame(rows, index=cases.columns, columns=["value", "low", "high", "n"]).astype({"n": int})


def _mapped(work: Work, method: Method, *, tolerant: bool) -> NDArray[np.float32] | None:
    """The heat maps of ``method``; None where the model does not allow it and that is tolerated."""
    try:
        return work.mapped(work.question.model, method)
    except ValueError:
        if tolerant:
            return None
        raise


def _asked(scores: str | Sequence[str], with_masks: bool, steps: int, given: dict[str, bool]) -> list[str]:
    """The scores to make, in the order of :data:`SCORES`."""
    groups = {"cheap": CHEAP, "all": (*CHEAP, *COSTLY)}
    in_group = isinstance(scores, str) and scores in groups
    wanted = set(groups[scores]) if in_group else {scores} if isinstance(scores, str) else set(scores)
    for name in sorted(() if in_group else wanted):
        if name not in SCORES:
            raise ValueError(f'There is no score {name!r}. There are: {", ".join(SCORES)}; or "cheap" or "all".')
        if name in LOCALIZATION and not with_masks:
            raise ValueError(f"Expected masks: {name!r} compares the heat with them. Received none.")
        if not given.get(name, True):
            argument = {"label_randomization": "shuffled", "repeatability": "repeats", "reproducibility": "others"}
            raise ValueError(f"Expected models in `{argument[name]}` for {name!r}. Received none.")
    wanted |= {name for name, there in given.items() if there}
    if not with_masks:
        wanted -= set(LOCALIZATION)
    if not steps:
        wanted -= {"deletion", "insertion"}
    return [name for name in SCORES if name in wanted]
