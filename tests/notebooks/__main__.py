"""Run the notebooks and keep what they print: `python -m tests.notebooks`, or with numbers (`01 03`) for some of them.

The files hold outputs, so that they can be read where they cannot be run. They are written anew when a cell changes,
without the times of execution that would make every file a changed one.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[2] / "notebooks"
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def refresh(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=60, resources={"metadata": {"path": str(FOLDER)}}).execute()
    notebook.metadata = METADATA
    for place, cell in enumerate(notebook.cells, start=1):
        cell.id = f"cell-{place:02}"
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = _joined(cell.outputs)
    nbformat.validate(notebook)
    path.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")


def _joined(outputs: list[Any]) -> list[Any]:
    """Return the outputs with what was printed in pieces as one: how many pieces is up to the kernel's timing."""
    joined: list[Any] = []
    for output in outputs:
        last = joined[-1] if joined else None
        if last and output.output_type == last.output_type == "stream" and output.name == last.name:
            last.text += output.text
        else:
            joined.append(output)
    return joined


if __name__ == "__main__":
    wanted = tuple(sys.argv[1:])
    for found in sorted(FOLDER.glob("*.ipynb")):
        if not wanted or found.name.startswith(wanted):
            print(f"running {found.name} ...")
            refresh(found)
