"""The doctor finds what is there and says what to do about what is not."""

import keras
import pytest

from medlab import cli, doctor


def test_it_reports_this_machine(capsys):
    assert cli.main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert f"Keras {keras.__version__}" in text
    assert "phantom:brain-tumor" in text
    assert "MISS" not in text


def test_a_missing_data_folder_is_a_note_with_its_remedy(monkeypatch, tmp_path):
    monkeypatch.setenv("MEDLAB_DATA", str(tmp_path / "nowhere"))
    found = {finding.what: finding for finding in doctor.examine()}
    assert not found["data folder"].good
    assert not found["data folder"].needed
    assert "which is no folder" in found["data folder"].text


def test_a_missing_package_is_needed(monkeypatch):
    def requires(name):
        return ["numpy>=1000", "no-such-package-at-all>=1", "tensorflow[and-cuda]; extra == 'gpu'"]

    monkeypatch.setattr(doctor.importlib.metadata, "requires", requires)
    finding = doctor._packages()
    assert finding.needed
    assert not finding.good
    assert "no-such-package-at-all is missing" in finding.text
    assert "needed >=1000" in finding.text


@pytest.mark.parametrize("words", [["data", "get"], ["notebooks", "copy"]])
def test_commands_without_their_object_say_what_is_missing(words, capsys):
    assert cli.main(words) == 2
    assert "Call 'medlab" in capsys.readouterr().err
