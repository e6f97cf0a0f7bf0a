"""Training: the network of a study made, trained and loaded again.

In: a study. Out: its plan, a new network, a finished training, the trained model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medlab.study.state import Study

if TYPE_CHECKING:
    import keras

    from medlab.train import Fit


def network(study: Study, name: str = "auto", *, seed: int = 0, **settings: Any) -> keras.Model:
    """A new network for the study's images.

    Args:
        study: the study.
        name: what :func:`medlab.models.make` takes, or ``"auto"``: the one that :func:`plan` proposes.
        seed: start of the random weights.
        **settings: what else that function takes, such as ``depth`` of ``resnet``.

    Raises:
        ValueError: there is no such network, or it has no such setting.
    """
    from medlab import models

    if name == "auto":
        proposed = plan(study)
        name, settings = proposed.model, dict(proposed.settings) | settings
    if study.cases.multi_label and study.task == "classification":
        settings = {"multi_label": True} | settings
    return models.make(name, _image_shape(study), study.outputs, seed=seed, **settings)


def plan(study: Study) -> Any:
    """How to train on the study's cases: what :func:`medlab.train.plan` or ``plan_segmentation`` says of them."""
    from medlab import train

    if study.task == "segmentation":
        facts = study.facts
        return train.plan_segmentation(facts["shapes"], facts["spacings"], study.outputs, shares=facts["shares"])
    return train.plan(len(study.cases.subset("train")), _image_shape(study), study.outputs)


def fit(
    study: Study,
    *,
    model: str = "auto",
    epochs: int | None = None,
    batch_size: int | None = None,
    augment: bool | None = None,
    optimizer: Any = None,
    learning_rate: Any = None,
    schedule: Any = None,
    loss: Any = None,
    seed: int = 0,
    settings: dict[str, Any] | None = None,
    **further: Any,
) -> Fit:
    """Trains a network on the study's cases and keeps it in the run folder.

    Args:
        study: the study.
        model: as :func:`network` takes it.
        epochs: None takes the plan's, as for the next ones.
        batch_size: cases a step.
        augment: whether the training images are changed at random, as suits their modality.
        optimizer: as :func:`medlab.train.fit` takes it, as the next three; None takes the plan's.
        learning_rate: its peak.
        schedule: of the learning rate.
        loss: what is minimized.
        seed: of weights, order and augmentation.
        settings: further arguments of the network's function.
        **further: what else :func:`medlab.train.fit` takes; it goes before what the plan says.

    Raises:
        ValueError: as the stations it calls.
    """
    from medlab import train

    proposed = plan(study)
    study.run.record("train", {"study": study.fingerprint()})
    changed = proposed.augment if augment is None else augment
    policy = _policy(study, proposed, seed) if changed else None
    size = proposed.batch_size if batch_size is None else batch_size
    named = {"optimizer": optimizer, "learning_rate": learning_rate, "schedule": schedule, "loss": loss}
    wanted = {name: value for name, value in named.items() if value is not None} | further
    if model == "auto":
        wanted = dict(proposed.fit) | wanted
    if study.patch is None:
        data, held_out = study.arrays("train"), study.arrays("validation")
        wanted = {"augment": policy} | wanted
    else:
        data, held_out = _patches(study, policy, size, proposed.foreground, seed)
    return train.fit(
        network(study, model, seed=seed, **(settings or {})),
        data,
        held_out,
        epochs=proposed.epochs if epochs is None else epochs,
        batch_size=size,
        seed=seed,
        run=study.run,
        **wanted,
    )


def _image_shape(study: Study) -> tuple[int, ...]:
    """The shape (i, j[, k], c) of one image, or of one patch."""
    if study.patch is None:
        return study.arrays("train")[0].shape[1:]
    first = study.cases.volume(study.cases.ids[0])
    return (*study.patch, first.channels)


def _policy(study: Study, proposed: Any, seed: int) -> Any:
    """The augmentation that the plan names, or that suits the modality."""
    from medlab import augment

    if study.task == "segmentation":
        rank = study.cases.volume(study.cases.ids[0]).rank
        return augment.policy(proposed.augment, rank=rank, seed=seed)
    return study.policy(seed=seed, **proposed.policy)


def _patches(study: Study, policy: Any, batch_size: int, foreground: float, seed: int) -> tuple[Any, Any]:
    """Training patches, one a case and drawn anew every epoch, and validation patches, always the same."""
    from medlab import batches

    shared = {"patch": study.patch, "recipe": study.recipe, "batch_size": batch_size, "seed": seed}
    return (
        batches.Patches(study.cases, "train", augment=policy, foreground=foreground, **shared),
        batches.Patches(study.cases, "validation", fixed=True, foreground=0.5, per_case=2, **shared),
    )


def model(study: Study, **settings: Any) -> keras.Model:
    """The trained model of a study's run folder; where there is none yet, one is trained now and said so.

    Args:
        study: the study.
        **settings: what :func:`fit` takes, for a training that has to be done now.
    """
    from medlab import models
    from medlab.train import progress

    if not study.run.model_path.is_file():
        progress.say(f"{study.run.path.name} has no trained model yet: training one now.")
        fit(study, **settings)
    elif study.run.facts().get("train", {}).get("study") not in (None, study.fingerprint()):
        raise ValueError(
            f"The model in {study.run.path.name} was trained on other cases, splits or another recipe than the folder "
            "has now: its test cases may be cases it has learned. Run 03_train again, or give another run folder."
        )
    return models.load(study.run.model_path)
