"""The examples in the test kit's docstrings run as they stand."""

from __future__ import annotations

import ast
import re
import textwrap
from pathlib import Path

import pytest

import langchain_parallel_plus.testing

pytest_plugins = ["langchain_parallel_plus.testing.fixtures"]

KIT = Path(langchain_parallel_plus.testing.__file__).parent
BLOCK = re.compile(r"^( *)```python\n(.*?)^\1```", re.DOTALL | re.MULTILINE)


def _examples():
    for path in sorted(KIT.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                continue
            for number, block in enumerate(BLOCK.finditer(ast.get_docstring(node) or "")):
                name = getattr(node, "name", "module")
                yield pytest.param(textwrap.dedent(block[2]), id=f"{path.relative_to(KIT)}:{name}:{number}")


EXAMPLES = list(_examples())


@pytest.mark.parametrize("code", EXAMPLES)
def test_examples_run(code, capsys):
    """With nothing defined beforehand."""
    exec(compile(code, "<docstring>", "exec"), {"__name__": "example"})


def test_there_are_examples():
    """Of each of the kit's main parts."""
    named = {param.id.split(":")[1] for param in EXAMPLES}
    assert {"ProviderSimulator", "VirtualProvider", "ProviderRules", "Quota", "FaultPlan", "ScriptedChatModel"} <= named
    assert sum(param.id.startswith("fixtures.py") for param in EXAMPLES) == 3
