"""The architecture as two tables, held against the imports of every file."""

import ast
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

import medlab

PACKAGE = Path(medlab.__file__).parent

# Who may import whom. A room may always import from itself. Data flows from the top to the bottom of this table;
# the nouns come first, and the verbs below them meet only in batches, in study and in the notebooks.
ALLOWED = {
    "backend": set(),
    "geometry": set(),
    "volume": {"geometry"},
    "cases": {"volume"},
    "runs": set(),
    "phantoms": {"geometry", "volume"},
    "load": {"geometry", "volume", "cases", "phantoms"},
    "clean": {"geometry", "volume", "cases"},
    "standardize": {"geometry", "volume"},
    "augment": {"backend"},
    "batches": {"backend", "load", "phantoms", "clean", "standardize", "augment", "cases", "volume"},
    "models": {"backend"},
    "train": {"backend", "runs", "view", "augment", "models"},
    "evaluate": {"backend", "view", "augment"},
    "explain": {"backend"},
    "label": {"backend", "train", "evaluate", "explain"},
    "view": {"geometry", "volume"},
    "study": {"backend", "cases", "runs", "load", "clean", "standardize", "batches", "models", "train", "augment"},
    "choose": {"backend", "runs", "models", "train", "evaluate", "augment", "batches", "view"},
    "report": {"runs", "view"},
    "notebook": {"runs", "report"},
    "doctor": {"backend", "load", "train", "notebook"},
    "cli": {"load", "report", "notebook", "doctor"},
}

# Within a station of several floors: each imports itself and what stands before it.
FLOORS = {"explain": ("asking", "maps", "checks"), "train": ("unlabeled", "adversarial")}

# Where each heavy package has its home: patterns of files.
BACKENDS = [
    "explain/asking/gradient.py", "explain/asking/compiled.py",
    "train/devices.py", "train/cluster.py", "train/precision.py",
]  # fmt: skip
HOMES = {
    "keras": ["backend.py"],
    "tensorflow": BACKENDS,
    "jax": BACKENDS,
    "torch": ["explain/asking/gradient.py"],
    "matplotlib": ["view/figures.py"],
    "ipywidgets": ["view/widgets.py", "view/live.py", "view/labeling.py", "view/sampler.py"],
    "anywidget": ["view/latent.py"],
    "ipyniivue": ["view/scene.py"],
    "itkwidgets": ["view/scene.py"],
    "papermill": ["notebook/runner.py"],
    "pydicom": ["load/dicom*.py"],
}

FILES = sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    """The room that a file belongs to."""
    parts = path.relative_to(PACKAGE).parts
    return parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Every module that a file imports, also inside functions, but not for type checking alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    names = set()
    for node in ast.walk(tree):
        if node in for_types:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write imports in full"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_only_what_it_may(path):
    here = room(path)
    if here == "__init__":
        return
    rooms = {name.split(".")[1] for name in imported(path) if name.startswith("medlab.")}
    rooms &= {room(file) for file in FILES}
    assert rooms - {here} <= ALLOWED[here], f"{path}: {sorted(rooms - {here} - ALLOWED[here])}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_heavy_packages_stay_at_home(path):
    place = path.relative_to(PACKAGE).as_posix()
    for name in imported(path):
        package = name.split(".")[0]
        homes = HOMES.get(package, ["*"])
        assert any(fnmatch(place, home) for home in homes), f"{place} imports {package}"


@pytest.mark.parametrize("path", [path for path in FILES if room(path) in FLOORS], ids=lambda path: path.stem)
def test_floors_are_climbed_one_way(path):
    station, floor = room(path), path.parent.name
    floors = FLOORS[station]
    if floor not in floors:
        return
    used = {name.split(".")[2] for name in imported(path) if name.startswith(f"medlab.{station}.")}
    assert used & set(floors) <= set(floors[: floors.index(floor) + 1]), path


def test_the_table_has_no_circle():
    seen: dict[str, set[str]] = {}

    def below(name: str, way: tuple[str, ...] = ()) -> set[str]:
        assert name not in way, f"circle: {' -> '.join((*way, name))}"
        if name not in seen:
            seen[name] = set().union(*({one} | below(one, (*way, name)) for one in ALLOWED[name]))
        return seen[name]

    for name in ALLOWED:
        below(name)


def test_the_table_names_every_room():
    assert {room(path) for path in FILES} - {"__init__"} == set(ALLOWED)


def test_every_station_is_a_room():
    assert set(medlab.STATIONS) <= set(ALLOWED)


def test_importing_medlab_loads_nothing_heavy():
    code = (
        "import sys, time; start = time.perf_counter(); import medlab; seconds = time.perf_counter() - start; "
        "heavy = {'numpy', 'pandas', 'scipy', 'keras', 'tensorflow', 'jax', 'matplotlib', 'nibabel', 'SimpleITK', "
        "'pydicom', 'ipywidgets', 'IPython', 'papermill'} & set(sys.modules); print(sorted(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", medlab.STATIONS)
def test_a_station_loads_no_framework(name):
    code = (
        f"import sys, medlab; medlab.{name}; dir(medlab.{name}); "
        "print(sorted({'keras', 'tensorflow', 'matplotlib', 'ipywidgets', 'papermill'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_unknown_name_says_what_there_is():
    with pytest.raises(AttributeError, match=r"medlab has no 'foo'. It has .*load"):
        medlab.foo


def test_no_file_names_a_module_like_a_function_of_its_room():
    """``train.fit`` must stay a function after ``medlab/train/fit.py`` was imported; so no file is called that."""
    for folder in {path.parent for path in FILES} - {PACKAGE}:
        if folder.parent != PACKAGE:
            continue  # only stations export names
        exported = getattr(__import__(f"medlab.{folder.name}", fromlist=["x"]), "__all__", [])
        files = {path.stem for path in folder.glob("*.py")}
        callables = {n for n in exported if callable(getattr(__import__(f"medlab.{folder.name}", fromlist=[n]), n))}
        assert not files & callables, f"{folder.name}: {sorted(files & callables)}"
