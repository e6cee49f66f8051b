"""The notebooks as they are read: whole, in order, executed, and without anything of the machine that ran them.

That they run is shown by `make notebooks`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from langchain_parallel_plus import RunnableParallelPlus, collect_report

ROOT = Path(__file__).parents[2]
PATHS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SWITCH = 'ChatOpenAI(model="gpt-4o-mini", max_retries=0) if REAL_OPENAI else'
RAISES = "raises-exception"  # nbmake's tag for a cell that is to fail
MACHINE = re.compile(
    r"""(?:^|[\s"'(=:])(?:file://|~/|/(?:home|Users|root|tmp|var|usr|opt|work|mnt|private)/|[A-Z]:\\)"""
    r"|site-packages|ipykernel_\d+|\.py:\d+|0x[0-9a-f]{8,}",
    flags=re.MULTILINE,
)
NAME = re.compile(r"`([A-Za-z_][\w.]*)(?:\(.*?\))?`")
IDENTIFIER = re.compile(r"[A-Za-z_]\w*")

Notebook = dict[str, Any]


def _read(path: Path) -> Notebook:
    notebook: Notebook = json.loads(path.read_text(encoding="utf-8"))
    return notebook


def _cells(notebook: Notebook, kind: str) -> list[dict[str, Any]]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == kind]


def _source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def _shown(output: dict[str, Any]) -> str:
    """Return all text of an output, of every form that it has."""
    parts = [output.get("text", []), *output.get("data", {}).values(), output.get("traceback", [])]
    return "\n".join("".join(part) if isinstance(part, list) else json.dumps(part) for part in parts)


each_notebook = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def test_they_are_numbered_in_the_order_of_reading() -> None:
    assert [path.stem for path in PATHS] == [
        "01_quick_start",
        "02_rate_limits",
        "03_failures",
        "04_synthesis",
        "05_traces_and_reports",
    ]


@each_notebook
def test_it_starts_with_what_it_is_about_and_the_line_that_switches_to_openai(path: Path) -> None:
    notebook = _read(path)
    assert _source(notebook["cells"][0]).startswith(f"# {int(path.name[:2])}. ")
    first = _source(_cells(notebook, "code")[0])
    assert "\nREAL_OPENAI = False\n" in first
    assert SWITCH in first


@each_notebook
def test_it_was_run_from_top_to_bottom_and_every_error_is_meant(path: Path) -> None:
    code = _cells(_read(path), "code")
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    for cell in code:
        kinds = {(output["output_type"], output.get("name")) for output in cell["outputs"]}
        assert ("stream", "stderr") not in kinds, _source(cell)
        if RAISES not in cell["metadata"].get("tags", []):
            assert "error" not in {kind for kind, _ in kinds}, _source(cell)


@each_notebook
def test_nothing_in_it_is_of_the_machine_that_ran_it(path: Path) -> None:
    notebook = _read(path)
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    assert notebook["metadata"]["language_info"] == {"name": "python"}
    for cell in notebook["cells"]:
        assert set(cell["metadata"]) <= {"tags"}, "refresh it with `python -m tests.notebooks`"
        for text in (_source(cell), *map(_shown, cell.get("outputs", []))):
            found = MACHINE.search(text)
            assert found is None, f"{found.group()!r} in {text[max(found.start() - 60, 0) : found.end() + 60]!r}"


@pytest.mark.parametrize("text", ['File "/home/me/x.py"', "at 0x7f3a12345678", "C:\\Users\\me", "a.py:12", "~/.venv"])
def test_what_is_of_a_machine_is_recognised(text: str) -> None:
    assert MACHINE.search(text)


@each_notebook
def test_it_is_small_and_each_cell_fits_a_screen(path: Path) -> None:
    assert path.stat().st_size < 200_000
    for cell in _read(path)["cells"]:
        assert len(_source(cell).splitlines()) <= 40, _source(cell)


def _known() -> set[str]:
    """Return every word of the package's and the notebooks' code."""
    modules = (ROOT / "langchain_parallel_plus").rglob("*.py")
    texts = [module.read_text(encoding="utf-8") for module in modules]
    texts += [_source(cell) for path in PATHS for cell in _cells(_read(path), "code")]
    return {word for text in texts for word in IDENTIFIER.findall(text)}


def test_their_text_names_only_what_exists() -> None:
    known = _known()
    for path in PATHS:
        text = "\n".join(_source(cell) for cell in _cells(_read(path), "markdown"))
        names = {word for name in NAME.findall(text) for word in name.split(".")}
        assert names <= known, f"{path.name}: {sorted(names - known)}"
        for link in re.findall(r"\]\(([^)#]+)\)", text):
            assert link.startswith("https://") or (path.parent / link).exists(), f"{path.name}: {link}"


@each_notebook
def test_the_reports_shown_are_those_of_this_version(path: Path) -> None:
    """What is kept in the files must be run anew when reports change: nobody else compares it."""
    with collect_report() as report:
        RunnableParallelPlus(length=len).invoke("text")
    legend = str(report).splitlines()[-1]
    shown = [_shown(output) for cell in _cells(_read(path), "code") for output in cell["outputs"]]
    legends = {line for text in shown for line in text.splitlines() if line.startswith("bars: ")}
    assert legends <= {legend}
