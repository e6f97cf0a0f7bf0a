"""What a training says: to which stream, in which words."""

import math

from medlab.train import progress

ROW = {
    "epoch": 3, "loss": 0.5, "val_loss": 0.25, "val_dice": 0.75, "val_auc": math.nan, "learning_rate": 0.001,
    "seconds": 2.0,
}  # fmt: skip


def test_numbers_that_were_measured_are_said():
    assert progress.numbers(ROW) == "loss 0.5000, validation loss 0.2500, validation Dice 0.7500, learning rate 1.0e-03"
    assert progress.numbers({"loss": 0.5}) == "loss 0.5000"


def test_outside_of_notebooks_an_epoch_is_a_line_on_standard_error(capsys):
    shown = progress.Progress(12, start=2)
    shown.begin([])
    shown.epoch(ROW, best=True)
    assert not shown.stop_asked(2.5)
    shown.close()
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("epoch  3/12  loss 0.5000, validation loss 0.2500, validation Dice 0.7500, learning rate 1.0")
    assert err.endswith(" 2.0 s, 0 s left *\n")
    progress.say("one line")
    assert capsys.readouterr().err == "one line\n"


def test_a_silent_training_says_nothing(capsys):
    silent = progress.Progress(2, shown=False)
    silent.begin([])
    silent.say("anything")
    silent.epoch({**ROW, "epoch": 1}, best=False)
    silent.close()
    assert capsys.readouterr() == ("", "")
