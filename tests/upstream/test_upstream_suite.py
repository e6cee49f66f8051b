"""langchain-core's own tests of runnables, with `RunnableParallelPlus` in `RunnableParallel`'s place."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[2]
SUITE = ("tests/unit_tests/runnables", "tests/unit_tests/load")
NEEDED = ("blockbuster", "freezegun", "grandalf", "pytest_mock", "pytest_socket", "syrupy")
"""What upstream's tests import."""

_GRAPHS = "tests/unit_tests/runnables/test_graph.py"
DEVIATIONS = {
    f"{_GRAPHS}::test_graph_sequence_map": "a branch's first node carries the branch's name",
    f"{_GRAPHS}::test_graph_mermaid_duplicate_nodes": "a branch's first node carries the branch's name",
}
"""Snapshots that are meant to differ."""

pytestmark = [pytest.mark.upstream, pytest.mark.timeout(240)]


def _missing() -> list[str]:
    return [name for name in (*NEEDED, "pip") if importlib.util.find_spec(name) is None]


def _fetch(folder: Path) -> Path | None:
    """Return the source distribution of the installed langchain-core; `None` where it cannot be had."""
    release = version("langchain-core")
    found = list(folder.glob(f"langchain_core-{release}.tar.gz"))
    if found:
        return found[0]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--no-binary", ":all:", "--dest", str(folder), f"langchain-core=={release}"]
    subprocess.run(command, capture_output=True, check=False, timeout=120)
    return next(folder.glob(f"langchain_core-{release}.tar.gz"), None)


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack the tests alone: beside the package's source they would not test the installed one."""
    with tarfile.open(archive) as source:
        for member in source.getmembers():
            inner = member.name.partition("/")[2]
            if inner.startswith("tests/") or inner == "pyproject.toml":
                member.name = inner
                source.extract(member, folder, filter="data")


@pytest.fixture(scope="module")
def suite(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with upstream's tests."""
    if missing := _missing():
        pytest.skip(f"upstream's tests need {', '.join(missing)}: install the `test` dependency group")
    archive = _fetch(request.config.cache.mkdir("langchain-core-sdist"))
    if archive is None:
        pytest.skip(f"the package index has no source distribution of langchain-core {version('langchain-core')}")
    folder = tmp_path_factory.mktemp("upstream")
    _unpack(archive, folder)
    return folder


def _run(suite: Path, *options: str) -> tuple[dict[str, str], set[str], str]:
    """Run upstream's tests; return pytest's totals, the failed tests, and what it printed."""
    paths = [str(ROOT), str(Path(__file__).parent)]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_"))}
    command = [
        sys.executable,
        "-m",
        "pytest",
        *SUITE,
        "-q",
        "-vv",
        "--tb=short",
        "--junitxml=totals.xml",
        "--disable-socket",
    ]
    done = subprocess.run(
        [*command, "--allow-unix-socket", "-o", "cache_dir=.cache", "-p", "no:looptime", *options],
        cwd=suite,
        env={**kept, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    totals = next(ElementTree.parse(suite / "totals.xml").getroot().iter("testsuite")).attrib
    last_failed = suite / ".cache/v/cache/lastfailed"
    failed: dict[str, Any] = json.loads(last_failed.read_text(encoding="utf-8")) if last_failed.exists() else {}
    return totals, set(failed), done.stdout + done.stderr


def test_what_holds_for_runnable_parallel_holds_for_runnable_parallel_plus(suite: Path) -> None:
    totals, ours, printed = _run(suite, "-p", "swapped_parallel")
    assert int(totals["tests"]) > 400, printed[-3000:]
    if ours:  # the baseline decides about these alone
        _, theirs, _ = _run(suite, "--last-failed", "--last-failed-no-failures", "none")
        reasons = [line for line in printed.splitlines() if line.startswith(("E  ", "____"))]
        assert sorted(ours - theirs - set(DEVIATIONS)) == [], "\n".join(reasons)
