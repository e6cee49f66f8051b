"""The direction of imports and the size of modules: what the folder names promise."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "langchain_parallel_plus"
NAME = PACKAGE.name

# What each part of the package may import of the others.
BASE = {"errors", "outcome"}
DATA = BASE | {"policy", "limits", "providers", "observe"}
ENGINE = DATA | {"_engine"}
ALLOWED = {
    "errors": {"outcome"},
    "outcome": {"errors"},
    "policy": BASE | {"limits"},  # a branch's policy may name a limiter
    "providers": BASE,
    "limits": BASE | {"providers"},
    "observe": BASE | {"display"},
    "display": {"observe"},  # what is shown comes as records of runs, or as words
    "_engine": DATA,
    "resilient": ENGINE,
    "fanout": ENGINE | {"resilient", "display"},  # a fan-out shows itself
    "synthesis": ENGINE | {"fanout", "resilient"},
    "testing": BASE,
}


def _part(module: str) -> str:
    return module.split(".")[1] if module.count(".") else "__init__"


def _imports(path: Path) -> set[str]:
    """Return the parts of the package that a module imports, for types only or for real."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        found |= {_part(name) for name in names if name.startswith(f"{NAME}.")}
    return found


def _modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("part", ALLOWED)
def test_imports_go_one_way(part: str) -> None:
    files = [path for path in _modules() if path.relative_to(PACKAGE).parts[0].removesuffix(".py") == part]
    assert files
    for path in files:
        assert _imports(path) <= ALLOWED[part] | {part}, path


def test_every_part_of_the_package_has_its_place() -> None:
    parts = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in _modules()}
    assert parts == set(ALLOWED) | {"__init__", "demo"}


@pytest.mark.parametrize("path", _modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_is_one_concept(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400
    assert path.stem not in {"utils", "helpers", "common", "manager", "misc"}


def test_sync_code_never_starts_an_event_loop() -> None:
    for path in _modules():
        if path.relative_to(PACKAGE).parts[0] not in {"demo", "testing"}:
            text = path.read_text(encoding="utf-8")
            assert "asyncio.run(" not in text
            assert "run_until_complete" not in text
