"""Keeper: what happens around each step and epoch of a training: validate, keep the best, write the state, stop.

In: a :class:`medlab.train.loop.Job` while Keras runs its epochs. Out: the state at the end, and why it ended.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from medlab import runs
from medlab.backend import keras
from medlab.train import checkpoint, cluster, guards, losses, pace, validating
from medlab.train.progress import Progress
from medlab.train.supervision import Trainee

if TYPE_CHECKING:
    from medlab.train.loop import Job

BY_HAND = "stopped by hand"


class Keeper(keras.callbacks.Callback):
    """A callback of Keras that keeps what a training must not lose.

    Attributes:
        state: where the training stands.
        stopped: why it ended before the last epoch, or None.
        diverged: what is wrong with the loss, or None.
    """

    def __init__(self, job: Job, trainee: Trainee, own_precision: Callable) -> None:
        super().__init__()
        self.job, self.trainee, self.own_precision = job, trainee, own_precision
        self.variables = [*trainee.variables, *trainee.optimizer.variables]
        self.diverged: str | None = None
        self.asked = self.cut = False
        self.state = self._begin()
        if job.setup.rank:  # of several processes the first alone writes
            self.job = job = replace(job, run=None, shown=False)
        self.stopped = self.state.stopped
        self.progress = Progress(job.epochs, start=self.state.epoch, shown=job.shown, judged=job.objective.judged)
        self.guard = guards.LossGuard(job.batches, job.setup.precision, known_scale=job.objective.task != losses.OTHER)
        if self.state.rows:
            self.guard.go_on(self.state.rows[0]["loss"], self.state.epoch)
        self.budget = None
        if job.max_seconds is not None:
            self.budget = pace.Budget(
                job.max_seconds, used=sum(row["seconds"] for row in self.state.rows),
                steps=job.epochs * len(job.batches), schedule=job.choice.schedule,
            )  # fmt: skip
        self._introduce()
        self.progress.begin(self.state.rows)
        self.record(None)

    def _begin(self) -> checkpoint.State:
        run = self.job.run
        if run is None:
            return checkpoint.State()
        if self.job.resume:
            state = checkpoint.load(run.path, self.variables, self.job.settings)
            if not cluster.agreed(0 if state is None else state.epoch, self.job.setup):
                raise ValueError(f"To resume, all processes must see the same {run.path}; they do not.")
            if state is not None:
                return state
        if not self.job.setup.rank:
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
        return self.state.epoch >= self.job.epochs or self._out_of_patience() or self.state.stopped is not None

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Tells the data which epoch begins."""
        self.job.batches.start_epoch(epoch)
        self.guard.start_epoch()
        self.done = epoch * len(self.job.batches)
        self.rate = None if self._follows_schedule() else float(np.asarray(self.trainee.optimizer.learning_rate))
        self.used = self.rate
        self.epoch_began = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Looks at the loss, the clock and the stop button."""
        self.done += 1
        self.used = self.rate
        epoch = self.state.epoch + 1
        self.diverged = self.guard.broken(float((logs or {})["loss"]), epoch=epoch, rate=self.learning_rate)
        if self.budget is not None:
            rate = self.budget.rate(self.done)
            if rate is not None:
                self._set_rate(rate)
            self.cut = self.budget.over()
        self.asked = self.progress.stop_asked(epoch - 1 + self.guard.steps / len(self.job.batches))
        if self.diverged or self.cut or self.asked:
            self.trainee.stop_training = True

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Validates, keeps the best, writes the state."""
        job, state = self.job, self.state
        if self.diverged:
            self._say_kept()
            return
        partial = self.guard.steps < len(job.batches)
        if self.asked:
            self.stopped = BY_HAND
            if partial and state.epoch:
                self._say_stop(epoch)
                return
        closing = time.perf_counter()
        own = self._take_mean() if job.averaged else []
        row = {
            "epoch": epoch + 1,
            "loss": float((logs or {})["loss"]),
            "learning_rate": self.learning_rate() if self.used is None else self.used,
        }
        row |= validating.measure(self.trainee, job)
        if self._broken(row):
            return
        row["seconds"] = time.perf_counter() - self.epoch_began
        state.rows.append(row)
        score_now = validating.rank(row)
        better = score_now > state.best_score or job.validation is None
        if better:
            state.best_epoch, state.best_score = epoch + 1, score_now
            state.best_weights = [checkpoint.array(one) for one in job.model.weights]
            self._save_model()
        for variable, value in zip(self.trainee.trainable_variables, own, strict=bool(own)):
            variable.assign(value)
        if job.plateau is not None:
            self._lower_rate()
        self._decide_to_stop(epoch)
        if not (partial and self.asked):
            self._save_state()
        if self.budget is not None:
            self.budget.closed(time.perf_counter() - closing)
        self.progress.epoch(row, best=better and job.validation is not None)
        if self.stopped:
            self._say_stop(epoch)
            self.trainee.stop_training = True

    def _broken(self, row: dict) -> bool:
        """Whether the weights or the validation loss after an epoch say that the training has run away."""
        seen = {"epoch": row["epoch"], "rate": self.learning_rate}
        self.diverged = self.guard.spoiled([checkpoint.array(one) for one in self.job.model.weights], **seen)
        if not self.diverged and self.job.validation is not None:
            self.diverged = self.guard.broken_in_validation(row["val_loss"], **seen)
        if self.diverged:
            self._say_kept()
            self.trainee.stop_training = True
        return bool(self.diverged)

    def _say_kept(self) -> None:
        best = self.state.best_epoch
        self.diverged += f" The weights of epoch {best} are kept." if best else " No weights are kept."

    def _decide_to_stop(self, epoch: int) -> None:
        if epoch + 1 >= self.job.epochs or self.stopped:
            return
        if self.budget is not None and (self.cut or self.budget.over()):
            within = "" if epoch or self.guard.steps == len(self.job.batches) else ", before the first epoch was over"
            self.stopped = self.state.stopped = f"the {self.job.max_seconds:g} seconds given are used up{within}"
        elif self._out_of_patience():
            self.stopped = f"no better validation score for {self.job.patience} epochs"

    def _say_stop(self, epoch: int) -> None:
        again = self.asked and self.job.run is not None and self.state.epoch
        self.progress.say(
            f"stopped {'after' if self.state.epoch > epoch else 'in'} epoch {epoch + 1}: {self.stopped}"
            + ("; call fit again with resume=True to go on" if again else "")
        )

    def _save_model(self) -> None:
        """Writes the model as it is now, with the mean of its weights where that is kept."""
        if self.job.run is not None and not self.job.setup.rank:
            with self._room("the model"), self.own_precision():
                checkpoint.save_model(self.job.saved or self.job.model, self.job.run.model_path)

    def _save_state(self) -> None:
        """Writes what is needed to go on."""
        job = self.job
        if job.run is not None and not job.setup.rank:
            left = [] if self.finished() else self.variables
            with self._room("the state of the training"):
                checkpoint.save(job.run.path, self.state, left, job.settings)

    def _room(self, what: str) -> AbstractContextManager:
        before = self.state.epoch - 1
        kept = f"What was saved after epoch {before} stays whole." if before else "Nothing was saved before."
        kept += f" The model in memory has the weights of epoch {self.state.best_epoch}."
        return guards.room_to_write(self.job.run.path, what, kept)

    def _take_mean(self) -> list[np.ndarray]:
        """Puts the running mean into the model and returns the weights that were there."""
        variables = self.trainee.trainable_variables
        own = [checkpoint.array(one) for one in variables]
        self.trainee.optimizer.finalize_variable_values(variables)
        for variable in variables:
            # On JAX the model and the optimizer would now share memory, which the next prediction gives away.
            variable.assign(checkpoint.array(variable))
        return own

    def _lower_rate(self) -> None:
        """The plateau schedule."""
        rows = self.state.rows
        best = self.state.best_epoch if self.job.validation is not None else pace.best_loss_epoch(rows)
        if pace.lowered(rows, best, self.job.plateau):
            self._set_rate(self.learning_rate() * pace.FACTOR)
            self.progress.say(
                f"learning rate {self.rate:.2g} from here on: no better score for {self.job.plateau} epochs"
            )

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
        best = self.state.rows[self.state.best_epoch - 1] if self.state.best_epoch else {}
        job.run.record(
            "train",
            {
                "model": job.model.name, "weights": job.model.count_params(), "seed": job.seed,
                "optimizer": job.settings["optimizer"], "learning_rate": job.settings["learning_rate"],
                "precision": job.setup.precision, "device": job.setup.device, "epochs": self.state.epoch,
                "best_epoch": self.state.best_epoch, "validation_auc": best.get("val_auc"),
                "validation_dice": best.get("val_dice"), "stopped": self.stopped,
                "finished": seconds is not None and self.diverged is None and self.stopped != BY_HAND,
                "seconds": total, "peak_memory_mb": runs.peak_memory_mb(), "choices": dict(job.choices),
            },
        )  # fmt: skip

    def _out_of_patience(self) -> bool:
        patience = self.job.patience
        return patience is not None and self.state.epoch - self.state.best_epoch >= patience

    def _follows_schedule(self) -> bool:
        """Whether the optimizer reads its rate from a schedule, step by step."""
        return self.job.choice.schedule is not None and not self.job.paced

    def learning_rate(self) -> float:
        """The rate of the last step."""
        if self.rate is not None:
            return self.rate
        return float(keras.ops.convert_to_numpy(self.job.choice.schedule(max(self.done - 1, 0))))

    def _set_rate(self, rate: float) -> None:
        if hasattr(self.trainee, "jax_state_sync"):  # within an epoch JAX keeps the variables elsewhere
            self.trainee.jax_state_sync()
        self.trainee.optimizer.learning_rate = rate
        self.rate = rate
