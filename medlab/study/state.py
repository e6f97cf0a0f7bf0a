"""State: what a study is: cases with splits, their recipe and the run folder, and the tensors made of them.

In: what :func:`medlab.study.prepare` decided. Out: arrays, masks, patients, the augmentation that suits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from medlab import batches, runs
from medlab.cases import Cases, pseudonym

if TYPE_CHECKING:
    from medlab.augment import Policy
    from medlab.standardize import Recipe
    from medlab.volume import Volume

TASKS = ("classification", "segmentation")


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

        For segmentation ``y`` are the masks (n, i, j[, k]). They are made once and kept; both are read-only.

        Raises:
            ValueError: images of several shapes, which :meth:`pairs` gives one by one.
        """
        if split not in self._made:
            if self.task == "segmentation":
                x = batches.images(self.cases, split, recipe=self.recipe, size=self._resized)
                y = self.masks(split)
            else:
                x, y = batches.arrays(self.cases, split, recipe=self.recipe, size=self._resized)
            x.flags.writeable = y.flags.writeable = False
            self._made[split] = x, y
        return self._made[split]

    def masks(self, split: str) -> np.ndarray:
        """The masks of one split, (n, i, j[, k]) whole numbers, on the same grid as :meth:`arrays`."""
        return batches.masks(self.cases, split, recipe=self.recipe, size=self._resized)

    def findings(self, split: str, label: int) -> np.ndarray:
        """Where each case of one split shows what only cases of class ``label`` show, (n, i, j[, k]) bool.

        Of a mask that also outlines organs (the lungs beside a nodule) only those regions are left that no case of
        another class has. Where all regions are in several classes (a heart, large or not) the whole mask stays.
        """
        masks = self.masks(split)
        labels = self.cases.subset(split).y()
        of_class = labels[:, label] > 0 if labels.ndim == 2 else labels == label
        inside = np.setdiff1d(np.unique(masks[of_class]), 0)
        own = np.setdiff1d(inside, np.unique(masks[~of_class]))
        return np.isin(masks, own if len(own) else inside)

    def pairs(self, split: str) -> Iterator[tuple[str, Volume, Volume]]:
        """Id, standardized image and mask of each case of one split, as Volumes, whatever their shapes."""
        return batches.pairs(self.cases, split, recipe=self.recipe, size=self._resized)

    def patients(self, split: str) -> np.ndarray:
        """The patient of each case of one split, (n,): the groups of a bootstrap."""
        return self.cases.subset(split).table["patient"].to_numpy()

    @property
    def task(self) -> str:
        """``"classification"`` of whole images, or ``"segmentation"``: a class for each voxel."""
        return self.facts.get("task", "classification")

    @property
    def regions(self) -> list[str]:
        """For segmentation, the names of the mask's values 0 (background), 1, ..."""
        return list(self.facts.get("regions") or [])

    @property
    def patch(self) -> tuple[int, ...] | None:
        """For segmentation of large images, the voxels of the patches that the network is trained on."""
        return tuple(self.facts["patch"]) if self.facts.get("patch") else None

    @property
    def outputs(self) -> int:
        """How many classes the network tells apart: of images, or of voxels."""
        return len(self.regions) if self.task == "segmentation" else len(self.cases.classes)

    @property
    def _resized(self) -> int | None:
        """What images are resized to; those that are segmented keep their voxels (the recipe crops or pads)."""
        return None if self.task == "segmentation" else self.size

    def fingerprint(self) -> str:
        """Twelve digits that change with the cases, their splits and labels, and the recipe."""
        rows = self.cases.table.sort_values("id")[["id", "split", "label"]].to_csv(index=False)
        return pseudonym(f"{rows}{self.recipe.to_dict()}{self.size}{'|'.join(self.regions)}")

    @property
    def modality(self) -> str | None:
        """The DICOM code of the images' modality, if it is known."""
        return self.cases.info.get("modality")

    def policy(self, *, seed: int = 0, **changes: Any) -> Policy:
        """The augmentation that suits the images' modality and rank; ``changes`` as in ``augment.policy``."""
        from medlab import augment

        first = self.cases.volume(self.cases.ids[0])
        return augment.policy(self.modality, rank=first.rank, seed=seed, **changes)
