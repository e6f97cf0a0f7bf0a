"""Every notebook keeps the rules that make it a lesson and a batch job at once; read as text, nothing is run."""

import ast
import json
import re

import pytest

from medlab import notebook

BOOKS = sorted(notebook.folder().glob("*.ipynb"))


def cells(path, kind):
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == kind]


def source(cell):
    return "".join(cell["source"])


@pytest.fixture(params=BOOKS, ids=lambda path: path.stem)
def book(request):
    return request.param


def test_the_study_is_there():
    assert [path.stem for path in BOOKS][: len(notebook.STUDY)] == list(notebook.STUDY)


def test_no_outputs_in_git(book):
    for cell in cells(book, "code"):
        assert cell["outputs"] == []
        assert cell["execution_count"] is None


def test_the_first_code_cell_has_the_parameters(book):
    first, *others = cells(book, "code")
    assert first["metadata"]["tags"] == ["parameters"]
    assert not any("parameters" in cell["metadata"].get("tags", []) for cell in others)
    for line in source(first).splitlines():
        assert re.search(r"  # \S", line), f"{book.name}: say what {line!r} is"


def test_a_thin_story_without_logic_of_its_own(book):
    code = cells(book, "code")
    assert len(code) <= 15
    for cell in code:
        assert len(source(cell).splitlines()) <= 15
        kinds = {type(node) for node in ast.walk(ast.parse(source(cell)))}
        assert not kinds & {ast.FunctionDef, ast.ClassDef, ast.Lambda, ast.AsyncFunctionDef}
        assert "!pip" not in source(cell)
        assert "%pip" not in source(cell)


def test_a_sentence_before_each_code_cell(book):
    before = None
    for cell in json.loads(book.read_text())["cells"]:
        if cell["cell_type"] == "code":
            assert before == "markdown", f"{book.name}: no sentence before {source(cell)[:60]!r}"
        before = cell["cell_type"]


def test_it_ends_with_results_and_exercises(book):
    assert "write_results(" in source(cells(book, "code")[-1])
    last = source(cells(book, "markdown")[-1])
    assert last.startswith("**Exercises**")
    assert len(re.findall(r"^\d\. ", last, re.MULTILINE)) in (2, 3)


def test_results_carry_the_notebooks_own_name(book):
    assert f'write_results("{book.stem}"' in source(cells(book, "code")[-1])
