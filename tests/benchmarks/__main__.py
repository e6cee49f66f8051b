"""Run all cases, or those named: `python -m tests.benchmarks trivial streams`."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import version

from tests.benchmarks import engine
from tests.benchmarks.table import HEADER

CASES = {**engine.CASES}


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in CASES]
    if unknown:
        print(f"no case named {', '.join(unknown)}; there are: {', '.join(CASES)}", file=sys.stderr)
        return 2
    print(
        f"Python {platform.python_version()}, langchain-core {version('langchain-core')}, {os.cpu_count()} cores. "
        "Both sides in turn, in one process; medians, and the quartiles of the ratios within pairs."
    )
    print(HEADER)
    for name in names or CASES:
        for line in CASES[name]():
            print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
