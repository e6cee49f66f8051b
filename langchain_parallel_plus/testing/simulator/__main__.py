"""Serve a simulated provider from the command line until Ctrl-C."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from typing import TYPE_CHECKING, NoReturn

from langchain_parallel_plus.errors import ParallelPlusError
from langchain_parallel_plus.testing.simulator.provider import ProviderSimulator

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ("main",)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"simulator: {message.replace(chr(10), '; ')}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until Ctrl-C or SIGTERM, then print the tally; return the exit code.

    Args:
        argv: The arguments; by default those of the process. Bad ones end the process with one line and code 2.
    """
    parser = _arguments()
    options = parser.parse_args(argv)
    try:
        simulator = ProviderSimulator(
            requests_per_minute=options.rpm,
            tokens_per_minute=options.tpm,
            latency=options.latency,
            chunk_delay=options.chunk_delay,
            port=options.port,
        )
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


def _arguments() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m langchain_parallel_plus.testing.simulator",
        description="Serve an OpenAI-compatible chat API with a quota on 127.0.0.1, until Ctrl-C.",
    )
    parser.add_argument("--rpm", type=int, metavar="N", help="requests per minute (default: no limit)")
    parser.add_argument("--tpm", type=int, metavar="N", help="tokens per minute (default: no limit)")
    parser.add_argument("--port", type=int, default=0, metavar="N", help="port to listen on (default: a free one)")
    parser.add_argument(
        "--latency", type=float, default=0.0, metavar="S", help="seconds before each answer (default: 0)"
    )
    parser.add_argument(
        "--chunk-delay", type=float, default=0.0, metavar="S", help="seconds between streamed tokens (default: 0)"
    )
    return parser


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
