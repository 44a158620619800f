"""The rules of the house, read from the source: what imports what, what is tested, what is told."""

import ast
import graphlib
import io
import re
import tokenize
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
ROOT_FILES = {"dataset", "hyperparameters", "modules", "predict", "similarity", "train"}
DRAWING = ("oasisvq/figures.py", "oasisvq/report/")
NOT_IN_MODULES = {"argparse", "matplotlib", "nibabel", "os", "pathlib", "requests"}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
MOST_LINES = 850
MOST_DEFERRED_IMPORTS = 11


def sources(root, *folders):
    """Returns the Python files of the root and of the folders below it, as relative paths."""
    paths = [*root.glob("*.py"), *(p for name in folders for p in (root / name).rglob("*.py"))]
    return sorted(path.relative_to(root) for path in paths)


def parse(root, path):
    """Returns the syntax tree of a file."""
    return ast.parse((root / path).read_text(), str(path))


def module_name(path):
    """Returns the name that a file is imported by, as `"oasisvq.core.files"`."""
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def imported(tree):
    """Yields every name that a tree imports, as `"numpy.linalg"` or `"oasisvq.core.signals"`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            yield from (f"{'.' * node.level}{node.module or ''}.{a.name}" for a in node.names)


def at_module_level(tree):
    """Returns the tree without what only runs in a function, or only for a type checker."""

    class Pruner(ast.NodeTransformer):
        def visit_FunctionDef(self, node):  # noqa: N802
            return None

        visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815

        def visit_If(self, node):  # noqa: N802
            typing = "TYPE_CHECKING" in ast.unparse(node.test)
            return None if typing else self.generic_visit(node)

    return Pruner().visit(tree)


def cycles(graph):
    """Returns a sentence about a circle in a graph, from names to the names that they need."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return [f"a circle of imports: {' <- '.join(error.args[1])}"]
    return []


# The checks: each returns a sentence for each fault.


def root_has_exactly_its_files(root):
    found = {path.stem for path in root.glob("*.py")}
    return [f"{name}.py: not one of the six, or missing" for name in sorted(found ^ ROOT_FILES)]


def package_imports_no_root_file(root):
    return [
        f"{path}: imports {name}"
        for path in sources(root, "oasisvq")
        if path.parts[0] == "oasisvq"
        for name in imported(parse(root, path))
        if name.split(".")[0] in ROOT_FILES
    ]


def files_import_in_no_circle(root):
    files = {module_name(path): path for path in sources(root, "oasisvq")}
    graph = {}
    for module, path in files.items():
        names = set(imported(at_module_level(parse(root, path))))
        # What is imported is a file, as in `from oasisvq.core import signals`, or stands in one.
        parents = {name.rpartition(".")[0] for name in names - files.keys()}
        graph[module] = (names | parents) & files.keys()
    return cycles(graph)


def rooms_import_in_no_circle(root):
    graph = {}
    for path in sources(root, "oasisvq"):
        if path.parts[0] == "oasisvq":
            room = Path(path.parts[1]).stem  # a folder, or a file beside them
            names = [name.split(".") for name in imported(parse(root, path))]
            rooms = {name[1] for name in names if name[0] == "oasisvq"}
            graph.setdefault(room, set()).update(rooms - {room})
    return cycles(graph)


def every_file_has_its_tests(root):
    problems = []
    for path in sources(root, "oasisvq"):
        if path.parts[0] != "oasisvq" or path.name == "__init__.py":
            continue
        tests = Path("tests/unit", *path.parts[1:-1], f"test_{path.name}")
        if not (root / tests).is_file():
            problems.append(f"{path}: {tests} is missing")
        elif not any(
            isinstance(node, FUNCTIONS) and node.name.startswith("test_")
            for node in ast.walk(parse(root, tests))
        ):
            problems.append(f"{path}: {tests} tests nothing")
    return problems


def only_figures_draw(root):
    return [
        f"{path}: imports {name}"
        for path in sources(root, "oasisvq")
        if not str(path.as_posix()).startswith(DRAWING)
        for name in imported(parse(root, path))
        if name.split(".")[0] == "matplotlib"
    ]


def modules_know_only_mathematics(root):
    names = {name.split(".")[0] for name in imported(parse(root, Path("modules.py")))}
    return [f"modules.py: imports {name}" for name in sorted(names & NOT_IN_MODULES)]


def ruff_lays_out_every_line(root):
    comments = [
        (path, token.start[0], token.string)
        for path in sources(root, "oasisvq", "tests")
        for token in tokenize.generate_tokens(io.StringIO((root / path).read_text()).readline)
        if token.type == tokenize.COMMENT
    ]
    switch = re.compile(r"fmt:\s*(skip|off|on)")
    return [f"{path}:{line}: {text}" for path, line, text in comments if switch.search(text)]


def few_imports_are_deferred(root):
    """Counts the imports in functions: in a file of the root, all of one function count as one."""
    places = set()
    for path in sources(root, "oasisvq"):
        for function in ast.walk(parse(root, path)):
            if not isinstance(function, FUNCTIONS):
                continue
            for node in ast.walk(function):
                if isinstance(node, ast.Import | ast.ImportFrom):
                    line = function.lineno if len(path.parts) == 1 else node.lineno
                    places.add(f"{path}:{line}")
    return sorted(places) if len(places) > MOST_DEFERRED_IMPORTS else []


def no_file_is_too_long(root):
    lengths = {
        path: len((root / path).read_text().splitlines()) for path in sources(root, "oasisvq")
    }
    return [f"{path}: {length} lines" for path, length in lengths.items() if length >= MOST_LINES]


def docstrings_begin_with_a_sentence(root):
    documented = (ast.Module, ast.ClassDef, *FUNCTIONS)
    return [
        f"{path}:{getattr(node, 'lineno', 1)}: {first}"
        for path in sources(root, "oasisvq", "tests")
        for node in ast.walk(parse(root, path))
        if isinstance(node, documented) and (text := ast.get_docstring(node)) is not None
        for first in [text.partition("\n")[0]]
        if not first.endswith(".")
    ]


def no_test_waits_for_a_time(root):
    """Refuses clocks, and numbers of seconds: on a busy machine none is long enough but `HANG`."""
    problems = []
    for path in sources(root, "tests/unit", "tests/scripts", "tests/support"):
        for call in ast.walk(parse(root, path)):
            if not isinstance(call, ast.Call) or path.parts[0] != "tests":
                continue
            name = ast.unparse(call.func).rpartition(".")[2]
            times = [word.value for word in call.keywords if word.arg in ("timeout", "deadline")]
            times = [node for time in times for node in ast.walk(time)]
            times += call.args if name in ("acquire", "join", "wait") else []
            values = [time.value for time in times if isinstance(time, ast.Constant)]
            numbers = [value for value in values if type(value) in (int, float)]
            if name in ("monotonic", "perf_counter", "sleep") or any(numbers):
                problems.append(f"{path}:{call.lineno}: {ast.unparse(call)}")
    return problems


CHECKS = [
    root_has_exactly_its_files,
    package_imports_no_root_file,
    files_import_in_no_circle,
    rooms_import_in_no_circle,
    every_file_has_its_tests,
    only_figures_draw,
    modules_know_only_mathematics,
    ruff_lays_out_every_line,
    few_imports_are_deferred,
    no_file_is_too_long,
    docstrings_begin_with_a_sentence,
    no_test_waits_for_a_time,
]


@pytest.mark.parametrize("check", CHECKS)
def test_the_house_keeps_its_rules(check):
    problems = check(ROOT)
    assert not problems, "\n".join(problems)


# A small project that keeps the rules, and faults to plant in it.

CLEAN = {f"{name}.py": '"""A sentence."""\n' for name in ROOT_FILES} | {
    "train.py": "import dataset\n\n\ndef main():\n    import keras\n    import numpy\n",
    "oasisvq/__init__.py": "",
    "oasisvq/figures.py": "from matplotlib import pyplot\n",
    "oasisvq/core/__init__.py": "",
    "oasisvq/core/files.py": "if TYPE_CHECKING:\n    import keras\n",
    "oasisvq/nn/losses.py": "from oasisvq.core import files, signals\nimport oasisvq.core.files\n",
    "tests/unit/test_figures.py": "def test_it_draws():\n    assert True\n",
    "tests/unit/core/test_files.py": "class TestFiles:\n    def test_whole(self):\n        pass\n",
    "tests/unit/nn/test_losses.py": 'def test_text():\n    assert "# fmt: skip"\n',
}
FILES, LOSSES = "oasisvq/core/files.py", "oasisvq/nn/losses.py"
FAULTS = [
    (root_has_exactly_its_files, "utils.py", "", "utils.py: not one of the six"),
    (root_has_exactly_its_files, "train.py", None, "train.py: not one of the six, or missing"),
    (package_imports_no_root_file, FILES, "import train", "imports train"),
    (
        package_imports_no_root_file,
        FILES,
        "def f():\n    from dataset import OASIS",
        "dataset.OASIS",
    ),
    (
        package_imports_no_root_file,
        LOSSES,
        "if TYPE_CHECKING:\n    from modules import PixelCNN",
        "modules.PixelCNN",
    ),
    (files_import_in_no_circle, "dataset.py", "import train", "dataset"),
    (files_import_in_no_circle, FILES, "from oasisvq.nn.losses import ssim", "oasisvq.nn.losses"),
    (files_import_in_no_circle, FILES, "from oasisvq.nn import losses", "oasisvq.nn.losses"),
    (
        rooms_import_in_no_circle,
        "oasisvq/core/other.py",
        "def late():\n    from oasisvq.nn import losses",
        "nn",
    ),
    (
        every_file_has_its_tests,
        "oasisvq/core/other.py",
        "",
        "tests/unit/core/test_other.py is missing",
    ),
    (every_file_has_its_tests, "tests/unit/core/test_files.py", "X = 1", "tests nothing"),
    (only_figures_draw, "similarity.py", "import matplotlib.pyplot", "similarity.py"),
    (only_figures_draw, FILES, "def draw():\n    from matplotlib import pyplot", FILES),
    *(
        (modules_know_only_mathematics, "modules.py", f"from {name} import x", f"imports {name}")
        for name in sorted(NOT_IN_MODULES)
    ),
    (ruff_lays_out_every_line, "train.py", "x = [1,\n 2]  # fmt: skip", "train.py:2"),
    (ruff_lays_out_every_line, "tests/unit/test_figures.py", "# fmt: off", "fmt: off"),
    (no_file_is_too_long, "oasisvq/long.py", "x = 1\n" * MOST_LINES, "oasisvq/long.py: 850 lines"),
    (docstrings_begin_with_a_sentence, "train.py", '"""No end"""', "train.py:1: No end"),
    (
        docstrings_begin_with_a_sentence,
        FILES,
        'class A:\n    def _f(self):\n        """A line\n        that is broken."""',
        f"{FILES}:2: A line",
    ),
    *(
        (no_test_waits_for_a_time, "tests/unit/test_figures.py", source, source)
        for source in ("gate.wait(20)", "process.wait(timeout=60)", "get(timeout=(5, 0.5))")
    ),
    (no_test_waits_for_a_time, "tests/support/clock.py", "began = time.monotonic()", "clock.py:1"),
]


@pytest.fixture
def project(tmp_path):
    """Returns a function that writes the small project with other files in it, or without."""

    def write(files=None):
        for name, text in {**CLEAN, **(files or {})}.items():
            if text is not None:
                (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / name).write_text(text)
        return tmp_path

    return write


@pytest.mark.parametrize("check", CHECKS)
def test_a_clean_project_passes(check, project):
    assert check(project()) == []


@pytest.mark.parametrize(("check", "path", "source", "found"), FAULTS)
def test_a_planted_fault_is_found(check, path, source, found, project):
    (problem,) = check(project({path: source}))
    assert found in problem


def test_deferred_imports_are_counted_by_block_in_scripts_and_one_by_one_in_the_package(project):
    body = "".join(f"    import m{n}\n" for n in range(MOST_DEFERRED_IMPORTS - 1))
    files = {"oasisvq/core/files.py": f"def late():\n{body}"}
    assert few_imports_are_deferred(project(files)) == []  # with the one block of train.py
    files["predict.py"] = "def main():\n    import keras\n    import numpy\n"
    assert len(few_imports_are_deferred(project(files))) == MOST_DEFERRED_IMPORTS + 1


# What the package says of itself.


def test_the_package_holds_the_root_files_and_each_command_exists():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert set(project["tool"]["setuptools"]["py-modules"]) == ROOT_FILES
    for command, place in project["project"]["scripts"].items():
        module, _, name = place.partition(":")
        assert command == f"oasisvq-{module}"
        defined = {
            name
            for node in parse(ROOT, Path(f"{module}.py")).body
            for name in [
                getattr(node, "name", None),
                *map(ast.unparse, getattr(node, "targets", ())),
            ]
        }
        assert name in defined


def test_the_lock_file_satisfies_the_requirements():
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    locked = dict(line.split("==") for line in lines if not line.startswith("#"))
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    for requirement in (Requirement(line) for line in lines if not line.startswith("#")):
        assert locked[canonicalize_name(requirement.name)] in requirement.specifier
