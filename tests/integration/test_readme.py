"""Every Python block of the README runs as written and prints what its last comments say."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

from langchain_parallel_plus.testing import ProviderSimulator

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)


def _promised(block: str) -> list[str]:
    """Return the output that a block's closing comment lines promise."""
    promised: list[str] = []
    for line in reversed(block.rstrip().splitlines()):
        if not line.startswith("# "):
            break
        promised.insert(0, line[2:])
    return promised


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_a_block_runs_as_written(block: str, monkeypatch: pytest.MonkeyPatch) -> None:
    printed = io.StringIO()
    with ProviderSimulator() as provider, contextlib.redirect_stdout(printed):
        monkeypatch.setenv("OPENAI_API_KEY", "simulator")
        monkeypatch.setenv("OPENAI_BASE_URL", provider.base_url)
        exec(compile(block, "README.md", "exec"), {"__name__": "readme"})
    if promised := _promised(block):
        assert printed.getvalue().splitlines() == promised


def test_the_first_screen_holds_claim_commands_and_example() -> None:
    start = README.split("## ", 1)[0]
    assert "make demo" in start
    assert "make test" in start
    assert ".with_policy(" in start
    assert len(start.splitlines()) <= 60
    assert len(README.splitlines()) <= 250


def test_the_commands_of_the_readme_are_targets_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    commands = re.findall(r"^make ([a-z]+)|`make ([a-z]+)", README, flags=re.MULTILINE)
    for target in {first or second for first, second in commands}:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
