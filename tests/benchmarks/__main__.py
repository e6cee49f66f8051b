"""Run all cases, or those named: `python -m tests.benchmarks trivial streams`."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import version

from tests.benchmarks import engine

CASES = {**engine.CASES}


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in CASES]
    if unknown:
        print(f"no case named {', '.join(unknown)}; there are: {', '.join(CASES)}", file=sys.stderr)
        return 2
    print(
        f"Python {platform.python_version()}, langchain-core {version('langchain-core')}, {os.cpu_count()} cores; "
        "medians of runs in turn; read the ratios"
    )
    print(f"{'case':<52} {'ours':>10} {'theirs':>10} {'':<9} {'ratio':>7}  {'target':<9} against")
    for name in names or CASES:
        for row in CASES[name]():
            print(row, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
