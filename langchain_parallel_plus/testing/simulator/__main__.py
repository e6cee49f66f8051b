"""Serve a simulated provider from the command line until Ctrl-C."""

from __future__ import annotations

import signal
import sys
import threading
from typing import TYPE_CHECKING

from langchain_parallel_plus.errors import ParallelPlusError
from langchain_parallel_plus.testing.simulator.arguments import Parser, settings
from langchain_parallel_plus.testing.simulator.provider import ProviderSimulator

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ("main",)


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until Ctrl-C or SIGTERM, then print the tally; return the exit code.

    Args:
        argv: The arguments; by default those of the process. Bad ones end the process with one line and code 2.
    """
    parser = Parser()
    options = parser.parse_args(argv)
    try:
        simulator = ProviderSimulator(**settings(options))
        # A shell that starts us in the background has Ctrl-C ignored; a server must stop on it all the same.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        simulator.start()
    except ParallelPlusError as error:
        parser.error(str(error))
    try:
        _say(simulator.base_url)
        threading.Event().wait()
    except KeyboardInterrupt:
        pass
    finally:
        simulator.stop()
    _say(str(simulator.tally))
    return 0


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
