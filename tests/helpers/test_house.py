"""Where things lie in helpers/: no import upwards, no circle, no private name of another module, modules that can be read."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

HELPERS = Path(__file__).resolve().parents[2] / "helpers"
# Each stands on those before it. helpers/ itself, on top, holds the commands.
PACKAGES = (
    "lib",
    "config",
    "rendering",
    "scheduler",
    "runs",
    "data",
    "grading",
    "repositories",
    "tasks",
    "serving",
    "prepare",
    "images",
    "jobs",
    "cluster",
    "explain",
    "trajectories",
    "benchmarks",
    "report",
    "datagen",
    "",
)
MOST_LINES = 360
MOST_LINES_OF_A_FUNCTION = 45
MODULES = {
    ".".join(path.relative_to(HELPERS.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(HELPERS.rglob("*.py"))
}


def package(module: str) -> str:
    inner = module.split(".")[1:]
    return inner[0] if len(inner) > 1 or MODULES[module].name == "__init__.py" and inner else ""


def imports(module: str) -> Iterator[tuple[str, str]]:
    """The modules of helpers/ that one imports, at its top or later, and the name that it takes."""
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            assert not any(alias.name.startswith("helpers") for alias in node.names), f"{module}: say `from … import`"
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "helpers":
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield (inner if inner in MODULES else node.module), alias.name


def test_every_package_is_in_the_plan_and_says_what_it_is_for() -> None:
    folders = {path.parent.relative_to(HELPERS) for path in MODULES.values()} - {Path(".")}
    assert {folder.parts[0] for folder in folders} == set(PACKAGES) - {""}
    for folder in folders:
        head = ast.get_docstring(ast.parse((HELPERS / folder / "__init__.py").read_text(encoding="utf-8"))) or ""
        assert head and (len(folder.parts) > 1 or "Runs " in head), (
            f"{folder}/__init__.py: what for, and where it runs?"
        )


@pytest.mark.parametrize("module", MODULES)
def test_no_import_upwards_and_no_private_name(module: str) -> None:
    for other, name in imports(module):
        assert PACKAGES.index(package(other)) <= PACKAGES.index(package(module)), f"{module} stands below {other}"
        assert not name.startswith("_"), f"{module} takes {name}, which is {other}'s own"


def test_no_circles() -> None:
    below = {module: {other for other, _ in imports(module)} - {module} for module in MODULES}
    while free := [module for module, others in below.items() if not others & below.keys()]:
        for module in free:
            del below[module]
    assert not below


@pytest.mark.parametrize("module", MODULES)
def test_a_module_can_be_read_in_one_go(module: str) -> None:
    assert len(MODULES[module].read_text(encoding="utf-8").splitlines()) <= MOST_LINES


@pytest.mark.parametrize("module", MODULES)
def test_no_function_is_longer_than_a_screen(module: str) -> None:
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name != "parser":  # a list of options
            lines = (node.end_lineno or 0) - node.lineno + 1
            assert lines <= MOST_LINES_OF_A_FUNCTION, f"{module}: {node.name} has {lines} lines"


def test_what_runs_without_any_package_imports_none() -> None:
    """helpers/runs, and what is started as a file on nodes or before there is an environment."""
    import sys

    bare = ["helpers.export_results", "helpers.images.weights", "helpers.scheduler.container_faults"]
    bare += ["helpers.lib.environment_check", "helpers.lib.offline"]
    bare += ["helpers.cluster.doctor.peer", "helpers.runs.load"]
    bare += ["helpers.serving.load_sampler", "helpers.trajectories.write"]
    bare += [f"helpers.repositories.{step}" for step in ("diff", "checkout", "score")]
    seen: set[str] = set()
    while bare:
        module = bare.pop()
        seen.add(module)
        for node in ast.parse(
            MODULES[module].read_text(encoding="utf-8")
        ).body:  # what is imported later may be missing
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            outside = {name.split(".")[0] for name in names} - {"helpers"} - set(sys.stdlib_module_names)
            assert not outside, f"{module} imports {outside}"
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("helpers"):
                found = [f"{node.module}.{alias.name}" for alias in node.names]
                bare += [m for one in found if (m := one if one in MODULES else node.module) not in seen]
