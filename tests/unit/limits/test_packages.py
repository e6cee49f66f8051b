"""What the folders of `limits` promise: each imports only what its name suggests, and nothing goes in circles."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

LIMITS = Path(__file__).parents[3] / "langchain_parallel_plus" / "limits"
NAME = "langchain_parallel_plus.limits"

# What each folder may import of the others, for types only or for real; modules at the top by name.
ALLOWED = {
    "planning": set(),
    "waiting": {"planning"},
    "learning": {"planning", "declaration"},
    "tokens": {"cost"},
}
TOP = {
    *(
        "limiter",
        "acquisition",
        "account",
        "registry",
        "ticket",
        "hold",
        "passes",
        "covering",
        "branch_scope",
        "branch_wait",
    ),
    *("cost", "declaration", "statistics", "__init__"),
}


def _modules() -> dict[str, Path]:
    return {".".join(path.relative_to(LIMITS).with_suffix("").parts): path for path in LIMITS.rglob("*.py")}


def _imported(path: Path, *, at_run_time: bool = False) -> set[str]:
    """Return the modules of `limits` that a module imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped: set[ast.AST] = set()
    if at_run_time:
        guards = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
        skipped = {node for guard in guards for node in ast.walk(guard)}
    names = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node not in skipped]
    return {name.removeprefix(f"{NAME}.") for name in names if name is not None and name.startswith(f"{NAME}.")}


def test_every_module_has_its_place() -> None:
    parts = {name.split(".")[0] for name in _modules()}
    assert parts == TOP | set(ALLOWED) | {"gate"}


@pytest.mark.parametrize("folder", ALLOWED)
def test_a_folder_imports_only_what_it_builds_on(folder: str) -> None:
    for path in (LIMITS / folder).glob("*.py"):
        assert {name.split(".")[0] for name in _imported(path)} <= ALLOWED[folder] | {folder}, path


def test_only_the_gate_knows_of_the_gate() -> None:
    for name, path in _modules().items():
        if not name.startswith("gate.") and name != "__init__":
            assert not [one for one in _imported(path) if one.startswith("gate")], name


def test_modules_do_not_import_each_other_in_circles() -> None:
    graph = {name: _imported(path, at_run_time=True) for name, path in _modules().items()}
    assert len(list(TopologicalSorter(graph).static_order())) >= len(graph)  # raises CycleError
