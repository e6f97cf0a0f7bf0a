"""Loop: the epochs of a training: validate, keep the best, write the state, stop.

In: a :class:`Job`, everything decided. Out: the model with its best weights and the state at the end.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from medlab import runs
from medlab.backend import keras
from medlab.train import checkpoint, feed, losses, optimize, score
from medlab.train import devices as machine
from medlab.train.progress import Progress


class DivergedError(ValueError):
    """The loss became NaN or infinite."""


@dataclass(frozen=True)
class Job:
    """A training, everything decided; the fields are those of :func:`medlab.train.fit`, or what it made of them."""

    model: keras.Model
    batches: feed.Feed | feed.Wrapped
    validation: tuple | keras.utils.PyDataset | None
    objective: losses.Objective
    choice: optimize.Choice
    setup: machine.Setup
    choices: Mapping[str, str]
    settings: Mapping[str, Any]
    epochs: int
    batch_size: int
    patience: int | None
    averaged: bool
    seed: int
    run: runs.Run | None
    resume: bool
    tensorboard: bool
    shown: bool
    cases: str


class Trainee(keras.Model):
    """A shell around the user's model: the shell is compiled and trained, the model itself stays as it was."""

    def __init__(self, model: keras.Model) -> None:
        super().__init__(name="trainee")
        self.inner = model
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """The model's output."""
        return self.inner(inputs, training=training)


def train(job: Job) -> tuple[checkpoint.State, float, str | None]:
    """Runs the epochs and leaves the best weights in the model.

    Returns:
        The state at the end, the seconds it took, and why it stopped early or None.

    Raises:
        DivergedError: the loss is not finite.
        ValueError: the state to resume from has other settings, or TensorBoard is wanted and not installed.
    """
    began = time.perf_counter()
    keras.utils.set_random_seed(job.seed % 2**32)
    extra = [_tensorboard(job)] if job.tensorboard else []
    with job.setup.scope(), machine.precision(job.model, job.setup.precision) as own:
        trainee = Trainee(job.model)
        trainee.compile(job.choice.optimizer, job.objective.loss, jit_compile=job.setup.jit)
        trainee.optimizer.build(trainee.trainable_variables)
        keeper = _Keeper(job, trainee, own)
        try:
            if not keeper.finished():
                _epochs(job, trainee, [keeper, *extra], start=keeper.state.epoch)
        except KeyboardInterrupt:
            keeper.interrupted()
            raise
        finally:
            keeper.progress.close()
            if keeper.state.best_weights:
                job.model.set_weights(keeper.state.best_weights)
    seconds = time.perf_counter() - began
    keeper.record(seconds)
    if keeper.diverged:
        raise DivergedError(keeper.diverged)
    return keeper.state, seconds, keeper.stopped


def _epochs(job: Job, trainee: Trainee, callbacks: list[keras.callbacks.Callback], *, start: int) -> None:
    """Keras' own loop; an error in the data is raised as what it was."""
    try:
        trainee.fit(
            job.batches, epochs=job.epochs, initial_epoch=start, shuffle=False, verbose=0, callbacks=callbacks
        )  # fmt: skip
    except Exception:
        if job.batches.failure is not None:
            raise job.batches.failure from None
        raise


class _Keeper(keras.callbacks.Callback):
    """What happens around each epoch."""

    def __init__(self, job: Job, trainee: Trainee, own_precision: Callable) -> None:
        super().__init__()
        self.job, self.trainee, self.own_precision = job, trainee, own_precision
        self.variables = [*trainee.variables, *trainee.optimizer.variables]
        self.stopped: str | None = None
        self.diverged: str | None = None
        self.state = self._begin()
        self.progress = Progress(job.epochs, start=self.state.epoch, shown=job.shown)
        self._introduce()
        self.record(None)

    def _begin(self) -> checkpoint.State:
        run = self.job.run
        if run is None:
            return checkpoint.State()
        if self.job.resume:
            state = checkpoint.load(run.path, self.variables, self.job.settings)
            if state is not None:
                return state
        checkpoint.clear(run.path)
        return checkpoint.State()

    def _introduce(self) -> None:
        job = self.job
        weights = job.model.count_params()
        self.progress.say(f"training {job.model.name} ({weights:,} weights) on {job.cases} cases")
        for name, line in job.choices.items():
            self.progress.say(f"  {name:14} {line}")
        if job.resume:
            done = self.state.epoch
            self.progress.say(
                f"  {'resumed':14} " + (f"after epoch {done}" if done else "nothing to resume: from the start")
            )

    def finished(self) -> bool:
        """Whether no more epochs are needed."""
        return self.state.epoch >= self.job.epochs or self._out_of_patience()

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Tells the data which epoch begins."""
        self.job.batches.start_epoch(epoch)
        self.epoch_began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Validates, keeps the best, writes the state."""
        job, state = self.job, self.state
        loss = float((logs or {})["loss"])
        if not math.isfinite(loss):
            self.diverged = (
                f"The loss became {loss} in epoch {epoch + 1} (learning rate {self._learning_rate():.3g}, "
                f"{job.setup.precision}). Take a smaller learning rate or precision='float32'. "
                + (f"The weights of epoch {state.best_epoch} are kept." if state.best_epoch else "No weights are kept.")
            )
            self.trainee.stop_training = True
            return
        own = self._take_mean() if job.averaged else []
        row = {"epoch": epoch + 1, "loss": loss, "learning_rate": self._learning_rate(), **self._validate()}
        row["seconds"] = time.perf_counter() - self.epoch_began
        state.rows.append(row)
        score_now = _rank(row)
        better = score_now > state.best_score or job.validation is None
        if better:
            state.best_epoch, state.best_score = epoch + 1, score_now
            state.best_weights = [checkpoint.array(one) for one in job.model.weights]
            self._save_model()
        for variable, value in zip(self.trainee.trainable_variables, own, strict=bool(own)):
            variable.assign(value)
        if job.run is not None:
            checkpoint.save(job.run.path, state, [] if self.finished() else self.variables, job.settings)
        self.progress.epoch(row, best=better and job.validation is not None)
        if self._out_of_patience() and epoch + 1 < job.epochs:
            self.stopped = f"no better validation score for {job.patience} epochs"
            self.progress.say(f"stopped after epoch {epoch + 1}: {self.stopped}")
            self.trainee.stop_training = True

    def _take_mean(self) -> list[np.ndarray]:
        """Puts the running mean into the model and returns the weights that were there."""
        variables = self.trainee.trainable_variables
        own = [checkpoint.array(one) for one in variables]
        self.trainee.optimizer.finalize_variable_values(variables)
        for variable in variables:
            # On JAX the model and the optimizer would now share memory, which the next prediction gives away.
            variable.assign(checkpoint.array(variable))
        return own

    def interrupted(self) -> None:
        """Says what is kept."""
        done = self.state.epoch
        if self.job.run is None:
            self.progress.say(f"interrupted after {done} whole epochs; give run=... to be able to resume")
        else:
            self.progress.say(
                f"interrupted; {done} whole epochs are in the run folder: call fit again with resume=True to go on"
            )
            self.record(None)

    def record(self, seconds: float | None) -> None:
        """Writes the section ``train`` of ``run.json``."""
        job = self.job
        if job.run is None:
            return
        total = float(np.sum([row["seconds"] for row in self.state.rows]))
        job.run.record(
            "train",
            {
                "model": job.model.name, "weights": job.model.count_params(), "seed": job.seed,
                "optimizer": job.settings["optimizer"], "learning_rate": job.settings["learning_rate"],
                "precision": job.setup.precision, "device": job.setup.device, "epochs": self.state.epoch,
                "best_epoch": self.state.best_epoch, "validation_auc": _best_auc(self.state), "stopped": self.stopped,
                "finished": seconds is not None and self.diverged is None, "seconds": total,
                "peak_memory_mb": runs.peak_memory_mb(), "choices": dict(job.choices),
            },
        )  # fmt: skip

    def _out_of_patience(self) -> bool:
        patience = self.job.patience
        return patience is not None and self.state.epoch - self.state.best_epoch >= patience

    def _learning_rate(self) -> float:
        """The rate of the last step."""
        optimizer = self.trainee.optimizer
        if self.job.choice.schedule is None:
            return float(np.asarray(optimizer.learning_rate))
        return float(keras.ops.convert_to_numpy(self.job.choice.schedule(int(np.asarray(optimizer.iterations)) - 1)))

    def _save_model(self) -> None:
        if self.job.run is None:
            return
        with self.own_precision():
            checkpoint.save_model(self.job.model, self.job.run.model_path)

    def _validate(self) -> dict[str, float]:
        if self.job.validation is None:
            return {}
        objective = self.job.objective
        total, cases, outputs, truth = 0.0, 0, [], []
        for x, y in feed.batches(self.job.validation, max(self.job.batch_size, 64)):
            out = np.asarray(self.trainee.predict_on_batch(x))
            value = objective.plain_loss(objective.encode(y), out)
            total += len(x) * float(keras.ops.convert_to_numpy(keras.ops.mean(value)))
            cases += len(x)
            if objective.task != losses.OTHER:
                outputs.append(out)
                truth.append(y)
        row = {"val_loss": total / cases}
        if outputs:
            y = np.concatenate(truth)
            p = score.probabilities(np.concatenate(outputs), objective.task, logits=objective.logits)
            row |= {"val_auc": score.auc(y, p), "val_accuracy": score.accuracy(y, p)}
        return row


def _rank(row: Mapping[str, float]) -> tuple[float, float]:
    """Larger is better: by AUC, on equal AUC by loss; by loss alone where AUC is undefined."""
    area = row.get("val_auc", math.nan)
    loss = row.get("val_loss", math.nan)
    return (-math.inf if math.isnan(area) else area, -math.inf if math.isnan(loss) else -loss)


def _best_auc(state: checkpoint.State) -> float | None:
    return state.rows[state.best_epoch - 1].get("val_auc") if state.best_epoch else None


def _tensorboard(job: Job) -> keras.callbacks.Callback:
    folder = job.run.path / "tensorboard"
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        raise ValueError("tensorboard=True needs the package tensorboard: pip install tensorboard.") from None
    return keras.callbacks.TensorBoard(folder, write_graph=False)
