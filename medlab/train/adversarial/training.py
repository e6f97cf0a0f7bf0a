"""Training: generator and discriminator in turn, epoch by epoch, watched.

In: a :class:`Job`, everything decided. Out: a :class:`medlab.train.GanFit`.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from medlab import runs
from medlab.backend import keras
from medlab.train import checkpoint, guards
from medlab.train import devices as machine
from medlab.train.adversarial import outcome, state
from medlab.train.adversarial.distorting import count_numbers
from medlab.train.adversarial.outcome import GanDivergedError, GanFit
from medlab.train.adversarial.steps import DiscriminatorStep, GeneratorStep
from medlab.train.adversarial.watching import GanProgress

_RUN_AWAY = 1e4
"""A loss beyond this, where logits are of a few units in a good run."""


@dataclass(frozen=True, eq=False)
class Job:
    """A training, everything decided; the fields are those of :func:`medlab.train.fit_gan`, or what it made of them."""

    gan: Any
    x: np.ndarray
    y: np.ndarray | None
    epochs: int
    size: int
    steps: int
    seed: int
    setup: machine.Setup
    choices: dict[str, str] = field(repr=False)
    settings: dict[str, Any] = field(repr=False)
    run: runs.Run | None
    resume: bool
    max_seconds: float | None
    shown: bool
    wanted: int


class Training:
    """The epochs of one job."""

    def __init__(
        self, job: Job, *, pair: tuple[float, float], loss: str, changes: tuple[str, ...], momentum: float | None
    ) -> None:
        self.job, gan = job, job.gan
        self.began = time.perf_counter()
        self.mean = keras.models.clone_model(gan.generator)
        self.mean.set_weights([checkpoint.array(one) for one in gan.generator.weights])
        self.sampler = type(gan)(self.mean, gan.discriminator, gan.latent, gan.classes, gan.value_range)
        common = {"loss": loss, "changes": changes, "limits": gan.value_range}
        self.judge = DiscriminatorStep(gan.discriminator, [gan.generator], **common)
        self.maker = GeneratorStep(gan.generator, [gan.discriminator, self.mean], momentum=momentum, **common)
        for step, rate in ((self.maker, pair[0]), (self.judge, pair[1])):
            step.compile(keras.optimizers.Adam(rate, beta_1=0.5, beta_2=0.999), jit_compile=job.setup.jit)
            step.optimizer.build(step.trainable_variables)
        self.variables = [
            *gan.generator.variables, *gan.discriminator.variables, *self.mean.variables, self.maker.count,
            *self.maker.optimizer.variables, *self.judge.optimizer.variables,
        ]  # fmt: skip
        self.latents = gan.latents(job.wanted, seed=job.seed)
        self.labels = np.arange(job.wanted, dtype=np.int32) % gan.classes if gan.classes else None
        self.compared, self.of_real = self._spread_of_real()
        self.state = self._begin()
        self.networks = [*gan.generator.variables, *gan.discriminator.variables]
        self.good = self._weights()
        self.progress = GanProgress(job.epochs, start=self.state.epoch, shown=job.shown)
        self.kept_epochs = outcome.shown_epochs(job.epochs)
        self.stopped: str | None = None
        self.asked = False

    def _begin(self) -> state.State:
        run = self.job.run
        if run is not None:
            found = state.load(run.path, self.variables, self.job.settings) if self.job.resume else None
            if found is not None:
                return found
            state.clear(run.path)
        return state.State()

    def _spread_of_real(self) -> tuple[int, float]:
        """As many different real images as there are samples, or as there are, and the mean distance to the nearest."""
        chosen: dict[bytes, int] = {}
        for number in np.random.default_rng(self.job.seed).permutation(len(self.job.x)):
            chosen.setdefault(self.job.x[number].tobytes(), number)
            if len(chosen) == self.job.wanted:
                break
        apart = outcome.nearest(outcome.coarse(self.job.x[list(chosen.values())]))
        return len(chosen), apart if apart > 0 else math.inf

    def _weights(self) -> list[np.ndarray]:
        return [checkpoint.array(one) for one in self.networks]

    def train(self) -> GanFit:
        """Runs the epochs."""
        job = self.job
        self._introduce()
        try:
            while self.state.epoch < job.epochs and not self.stopped:
                if self.state.epoch and self._time_is_up():
                    self.stopped = self._out_of_time()
                    break
                self._epoch(self.state.epoch)
        except KeyboardInterrupt:
            self.progress.say(
                f"interrupted after {self.state.epoch} whole epochs"
                + ("; call fit_gan again with resume=True to go on" if job.run is not None else "")
            )
            raise
        finally:
            self.progress.close()
            if self.stopped == "diverged":
                for variable, value in zip(self.networks, self.good, strict=True):
                    variable.assign(value)
            if self.state.mean:
                job.gan.generator.set_weights(self.state.mean)
            if self.state.epoch or self.stopped != "diverged":
                self._settle()
        return self.fit()

    def fit(self) -> GanFit:
        """What there is so far."""
        job = self.job
        fit = GanFit(
            job.gan, pd.DataFrame(self.state.rows, columns=list(outcome.COLUMNS)), dict(self.state.samples),
            self.latents, self.labels, time.perf_counter() - self.began, job.setup.device, job.choices,
            tuple(self.state.warnings), self.stopped, job.run,
        )  # fmt: skip
        if job.run is not None:
            job.run.record("gan", {
                "choices": job.choices, "epochs": self.state.epoch, "seconds": fit.seconds, "seed": job.seed,
                "stopped": self.stopped, "warnings": self.state.warnings,
            })  # fmt: skip
        return fit

    def _introduce(self) -> None:
        gan, say = self.job.gan, self.progress.say
        weights = f"{gan.generator.count_params():,} and {gan.discriminator.count_params():,} weights"
        say(f"training generator and discriminator ({weights}) on {len(self.job.x)} images")
        for name, line in self.job.choices.items():
            say(f"  {name:14} {line}")
        if self.job.resume:
            done = self.state.epoch
            say(f"  {'resumed':14} " + (f"after epoch {done}" if done else "nothing to resume: from the start"))
        self.progress.begin(self.state.rows)

    def _epoch(self, epoch: int) -> None:
        job, began = self.job, time.perf_counter()
        order = np.random.default_rng((job.seed, epoch)).permutation(len(job.x))
        self.judge.reset_metrics()
        self.maker.reset_metrics()
        losses, done = (math.nan, math.nan), 0
        for step in range(job.steps):
            losses = self._step(epoch, step, order[step * job.size : (step + 1) * job.size])
            done += 1
            self._guard(losses, epoch, step)
            self.asked = self.progress.stop_asked(epoch + done / job.steps)
            if self.asked or self._time_is_up():
                break
        if self.asked:
            self.stopped = "stopped by hand"
        elif (self._time_is_up() and epoch + 1 < job.epochs) or done < job.steps:
            self.stopped = self._out_of_time()
        if self.asked and done < job.steps and self.state.epoch:
            return  # of a partial epoch nothing is kept, so that a training resumed goes on as if never stopped
        self._close(epoch, losses, began, whole=done == job.steps)

    def _step(self, epoch: int, step: int, chosen: np.ndarray) -> tuple[float, float]:
        """Both networks' step; the means of both losses in this epoch so far."""
        job, gan = self.job, self.job.gan
        random = np.random.default_rng((job.seed, epoch, step))
        count = count_numbers(job.x.ndim - 2)
        batch = {
            "real": job.x[chosen],
            "latent": random.standard_normal((job.size, gan.latent), np.float32),
            "numbers": random.random((2 * job.size, count), np.float32),
        }
        made = {
            "latent": random.standard_normal((job.size, gan.latent), np.float32),
            "numbers": random.random((job.size, count), np.float32),
        }
        if job.y is not None:
            batch |= {"label": job.y[chosen], "wanted": random.permutation(job.y)[: job.size]}
            made["wanted"] = random.permutation(job.y)[: job.size]
        return float(self.judge.train_on_batch(batch)), float(self.maker.train_on_batch(made))

    def _time_is_up(self) -> bool:
        used = sum(row["seconds"] for row in self.state.rows[: self.progress.start])
        limit = self.job.max_seconds
        return limit is not None and used + time.perf_counter() - self.began >= limit

    def _out_of_time(self) -> str:
        return f"the {self.job.max_seconds:g} seconds given are used up"

    def _guard(self, losses: tuple[float, float], epoch: int, step: int) -> None:
        if all(math.isfinite(one) and abs(one) < _RUN_AWAY for one in losses):
            return
        self._diverged(
            f"The losses became {losses[0]:.3g} (discriminator) and {losses[1]:.3g} (generator) in step {step + 1} of "
            f"epoch {epoch + 1}"
        )

    def _diverged(self, what: str) -> None:
        done = self.state.epoch
        rates = self.job.settings["learning_rate"]
        kept = f"The generator and the samples of epoch {done} are kept." if done else "Its first weights are put back."
        error = GanDivergedError(
            f"{what}, although the images are finite: the learning rates are the likely cause. Take "
            f"learning_rate=({rates[0] / 10:.1g}, {rates[1] / 10:.1g}) or less, and spectral_norm=True. {kept}"
        )
        self.stopped = "diverged"
        if done:
            self.job.gan.generator.set_weights(self.state.mean)
            error.fit = self.fit()
        raise error

    def _close(self, epoch: int, losses: tuple[float, float], began: float, *, whole: bool) -> None:
        """Samples, diversity, the row of the history and, after a whole epoch, the state to resume from."""
        job, now = self.job, self.state
        if self.maker.momentum is None:
            self.mean.set_weights([checkpoint.array(one) for one in job.gan.generator.weights])
        mean = [checkpoint.array(one) for one in self.mean.variables]
        samples = self.sampler.images(self.latents, self.labels)
        weights = [*mean, *(checkpoint.array(one) for one in job.gan.discriminator.variables), samples]
        if not all(np.isfinite(one).all() for one in weights):
            self._diverged(f"The weights became NaN or infinite in epoch {epoch + 1}")
        row = {
            "epoch": epoch + 1, "discriminator_loss": losses[0], "generator_loss": losses[1],
            "diversity": outcome.diversity(samples[: self.compared], self.of_real),
            "seconds": time.perf_counter() - began,
        }  # fmt: skip
        now.rows.append(row)
        now.mean, self.good = mean, self._weights()
        for old in set(now.samples) - self.kept_epochs:
            del now.samples[old]
        now.samples[epoch + 1] = samples
        self._warn(row)
        if job.run is not None:
            self._save(whole)
        self.progress.samples = samples
        self.progress.epoch(row, best=False)
        if self.stopped:
            self.progress.say(f"stopped after epoch {epoch + 1}: {self.stopped}")

    def _warn(self, row: dict[str, Any]) -> None:
        """A mode collapse: samples alike in three epochs running, once there was time to learn to tell them apart."""
        rows = self.state.rows
        late = row["epoch"] >= min(max(3, self.job.epochs // 4), 10)
        last = [one["diversity"] for one in rows[-3:]]
        stuck = last[-1] <= 1.1 * last[0] or last[-1] < outcome.COLLAPSED / 5  # a slow start still grows
        if late and stuck and max(last) < outcome.COLLAPSED and not self.state.warnings:
            said = (
                f"Epoch {row['epoch']}: the samples have {row['diversity']:.2f} of the diversity of real images: they "
                "are alike (mode collapse). Train longer, take smaller learning rates, or more images."
            )
            self.state.warnings.append(said)
            self.progress.say(said)

    def _save(self, whole: bool) -> None:
        job, now = self.job, self.state
        kept = f"What was saved after epoch {now.epoch - 1} stays whole." if now.epoch > 1 else "Nothing was saved."
        with guards.room_to_write(job.run.path, "the state of the training", kept):
            if whole:
                state.save(job.run.path, now, self.variables, job.settings)
            checkpoint.save_model(self.mean, job.run.model_path)
            checkpoint.save_model(job.gan.discriminator, job.run.path / "discriminator.keras")
            pd.DataFrame(now.rows, columns=list(outcome.COLUMNS)).to_csv(job.run.path / "history.csv", index=False)

    def _settle(self) -> None:
        """Divides the discriminator's weights by their spectral norm for good, as each step has judged with."""
        given = self.job.x[:2]
        self.job.gan.discriminator(given if self.job.y is None else [given, self.job.y[:2]], training=True)
