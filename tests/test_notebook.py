"""The runner refuses what papermill lets pass, and keeps what was done when a notebook fails."""

import json

import numpy as np
import pytest

from medlab import cli, notebook
from medlab.notebook import parameters as reading
from medlab.notebook import runner


def write(path, *cells, tag="parameters"):
    """A notebook whose first code cell carries ``tag``."""
    content = [
        {"cell_type": "code", "source": source, "metadata": {"tags": [tag]} if number == 0 and tag else {},
         "outputs": [], "execution_count": None, "id": f"c{number}"}
        for number, source in enumerate(cells)
    ]  # fmt: skip
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path.write_text(
        json.dumps({"cells": content, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5})
    )
    return path


PARAMETERS = """\
# what it is about
count = 3  # how many
rate: float | str = "auto"  # learning rate
size: int | None = None
name = "a=b"  # a text with = inside
run = "../runs/x"
"""


@pytest.fixture
def book(tmp_path):
    body = (
        "import json, os, pathlib\n"
        "folder = pathlib.Path(run) / 'results'; folder.mkdir(parents=True, exist_ok=True)\n"
        "values = dict(count=count, rate=rate, size=size, name=name, headless=os.environ.get('MEDLAB_HEADLESS'))\n"
        "(folder / 'book.json').write_text(json.dumps(values))"
    )
    return write(tmp_path / "book.ipynb", PARAMETERS, body)


def test_parameters_are_read_with_types_and_comments(book):
    found = notebook.read_parameters(book)
    assert list(found) == ["count", "rate", "size", "name", "run"]
    assert (found["count"].default, found["count"].types, found["count"].description) == (3, ("int",), "how many")
    assert found["rate"].types == ("float", "str")
    assert found["size"].types == ("int", "None")
    assert found["name"].default == "a=b"


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [("count", "5", 5), ("rate", "1e-3", 0.001), ("rate", "auto", "auto"), ("rate", "1", 1.0), ("size", "null", None),
     ("size", "None", None), ("size", "64", 64), ("name", "0012", "0012"), ("name", "true", "true")],
)  # fmt: skip
def test_words_of_the_command_line_become_values(book, name, text, value):
    found = notebook.read_parameters(book)[name].parse(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(("name", "text"), [("count", "many"), ("count", "1.5"), ("size", "big"), ("count", "true")])
def test_words_that_do_not_fit_are_refused(book, name, text):
    with pytest.raises(ValueError, match=f"Expected int.* for '{name}'"):
        notebook.read_parameters(book)[name].parse(text)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"cuont": 1}, "no parameter 'cuont' in book.ipynb. Did you mean 'count'"),
        ({"count": (1, 2)}, "JSON value .* Received tuple"),
        ({"count": np.int64(1)}, r"Received int64; convert it first"),
        ({"count": "3"}, "Expected int for 'count'. Received str"),
        ({"count": True}, "Expected int for 'count'. Received bool"),
        ({"rate": None}, "Expected float or str"),
    ],
)
def test_values_that_do_not_fit_are_refused_before_anything_runs(book, tmp_path, given, message):
    with pytest.raises(ValueError, match=message):
        notebook.run(book, tmp_path / "out", given)
    assert not (tmp_path / "out" / "book.ipynb").exists()


@pytest.mark.parametrize(
    ("cells", "tag", "message"),
    [
        (["x = 1"], None, "one cell tagged 'parameters' .* Found 0"),
        (["x = f(1)"], "parameters", "JSON value in the parameters cell"),
        (["x = (1, 2)"], "parameters", "JSON value in the parameters cell"),
        (["import os"], "parameters", "only lines 'name = value'"),
        (["x = "], "parameters", "is not Python"),
    ],
)
def test_notebooks_that_cannot_be_parameterized(tmp_path, cells, tag, message):
    with pytest.raises(ValueError, match=message):
        notebook.run(write(tmp_path / "x.ipynb", *cells, tag=tag), tmp_path / "out", {})


def test_what_is_no_notebook(tmp_path):
    with pytest.raises(ValueError, match="No such notebook"):
        notebook.run(tmp_path / "none.ipynb", tmp_path / "out")
    (tmp_path / "x.ipynb").write_text("hello")
    with pytest.raises(ValueError, match="Expected a Jupyter notebook"):
        notebook.run(tmp_path / "x.ipynb", tmp_path / "out")


def test_it_never_overwrites_its_source(book):
    before = book.read_text()
    with pytest.raises(ValueError, match="would overwrite"):
        notebook.run(book, book.parent)
    assert book.read_text() == before


@pytest.mark.notebook
def test_a_run_gives_its_results_and_leaves_no_path(book, tmp_path, capsys):
    out = tmp_path / "out {1}"
    found = notebook.run(book, out, {"count": 4, "rate": 0.5})
    assert found == {"count": 4, "rate": 0.5, "size": None, "name": "a=b", "headless": "1"}
    assert json.loads((out / "results.json").read_text()) == found
    note = json.loads((out / "book.ipynb").read_text())["metadata"]["papermill"]
    assert (note["input_path"], note["output_path"]) == ("book.ipynb", "book.ipynb")


@pytest.mark.notebook
def test_a_failure_names_the_cell_and_keeps_the_notebook(tmp_path, capfd):
    book = write(
        tmp_path / "bad.ipynb", "n = 1", "print('so far')", "raise ValueError('n is too small')", "print('never')"
    )
    with pytest.raises(notebook.NotebookError, match=r"bad.ipynb, cell 4: ValueError: n is too small") as caught:
        notebook.run(book, tmp_path / "out", {"n": 2})
    kept = caught.value.path.read_text()
    assert "so far" in kept
    assert cli.main(["run", str(book), "--out", str(tmp_path / "again"), "-q"]) == 1
    assert capfd.readouterr().err.splitlines()[-1] == "medlab: bad.ipynb, cell 3: ValueError: n is too small"


@pytest.mark.notebook
def test_a_killed_kernel_is_told(tmp_path):
    book = write(tmp_path / "killed.ipynb", "n = 1", "import os; os.kill(os.getpid(), 9)")
    with pytest.raises(notebook.NotebookError, match="its kernel died"):
        notebook.run(book, tmp_path / "out", progress=False)


def test_the_command_line_says_what_is_wrong_in_one_line(book, tmp_path, capsys):
    assert cli.main(["run", str(book), "-p", "cuont", "1", "--out", str(tmp_path / "o")]) == 2
    assert capsys.readouterr().err == (
        "medlab: There is no parameter 'cuont' in book.ipynb. Did you mean 'count'? "
        "It has: count, name, rate, run, size.\n"
    )
    assert cli.main(["run", "06_nothing"]) == 2
    assert "There is no notebook '06_nothing'" in capsys.readouterr().err
    assert cli.main(["run", str(book), "-p", "count", "1", "-p", "count", "2"]) == 2
    assert "given twice" in capsys.readouterr().err
    assert cli.main([]) == 2


def test_copy_overwrites_nothing(tmp_path):
    copied = notebook.copy(tmp_path / "mine")
    assert {path.stem for path in copied} >= set(notebook.STUDY)
    copied[0].write_text("my own work")
    with pytest.raises(ValueError, match="already has"):
        notebook.copy(tmp_path / "mine")
    assert copied[0].read_text() == "my own work"


def test_comments_and_defaults_of_every_notebook():
    for path in sorted(notebook.folder().glob("*.ipynb")):
        for one in notebook.read_parameters(path).values():
            assert one.description, f"{path.name}: say what {one.name} is"
            assert one.check(one.default) == one.default


def test_reading_is_not_running(tmp_path):
    target = tmp_path / "made"
    book = write(tmp_path / "evil.ipynb", f"x = open({str(target)!r}, 'w')")
    with pytest.raises(ValueError, match="JSON value"):
        reading.read_parameters(book)
    assert not target.exists()


def test_bars_of_the_kernel_are_left_out_of_the_log(capsys):
    stream = runner._Above()
    for text in ("epoch 1\nepo", "ch 2\n", "\rimages: 10%", "\rimages: 20%", "\r          \r", "done\n", "open"):
        stream.write(text)
    assert capsys.readouterr().err == "epoch 1\nepoch 2\ndone\n"


def test_paths_of_the_user_are_taken_out_of_errors():
    text = "/data/Jane Doe/tumor/Doe_Jane.png is of no format, see /home/x/a.csv or 1/2 and and/or"
    assert runner._without_paths(text) == "<path> is of no format, see <path> or 1/2 and and/or"
    assert runner._without_paths(f"File {runner.__file__}:3") == f"File {runner.__file__}:3"


def test_a_refused_run_leaves_no_folder(book, tmp_path):
    with pytest.raises(ValueError, match="no parameter"):
        notebook.run(book, tmp_path / "new", {"x": 1})
    assert not (tmp_path / "new").exists()
