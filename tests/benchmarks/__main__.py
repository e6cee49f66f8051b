"""Run all cases, or those named: `python -m tests.benchmarks trivial streams`.

Those of the policies and of the limiter have tables of their own. `quota-short` is an extract of `quota`, and runs only
if it is named.
"""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import version

from tests.benchmarks import engine, policies, quota
from tests.benchmarks.table import HEADER

CASES = {**engine.CASES, **policies.CASES, **quota.CASES}
_ONLY_BY_NAME = {"quota-short"}


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in CASES]
    if unknown:
        print(f"no case named {', '.join(unknown)}; there are: {', '.join(CASES)}", file=sys.stderr)
        return 2
    print(
        f"Python {platform.python_version()}, langchain-core {version('langchain-core')}, {os.cpu_count()} cores. "
        "Both sides in turn, in one process; medians, and the quartiles of the ratios within pairs."
    )
    chosen = names or [name for name in CASES if name not in _ONLY_BY_NAME]
    if not engine.CASES.keys().isdisjoint(chosen):
        print(HEADER)
    for name in chosen:
        if name not in engine.CASES:
            print()
        for line in CASES[name]():
            print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
