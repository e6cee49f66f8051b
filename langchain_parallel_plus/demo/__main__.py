"""`python -m langchain_parallel_plus.demo [FILE|-]`: a brief of a document, a report, and three measured scenarios."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ("main",)

_REFUSED = 2
_INTERRUPTED = 130


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(_REFUSED, f"demo: {message}; see --help\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo and return its exit code: 0, 2 when something is for the user to put right, 130 after Ctrl-C.

    Args:
        argv: The arguments; by default those of the process.
    """
    options = _arguments().parse_args(argv)
    # A shell that starts us in the background has Ctrl-C ignored; the demo must stop on it all the same.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that lacks a character shows a mark for it
    try:
        return _run(options.file, scenarios=not options.brief_only, failing=options.fail)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # The reader has left (`| head`); the interpreter's own flush at exit must not complain about it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(source: str | None, *, scenarios: bool, failing: str | None) -> int:
    # Imported here, so that Ctrl-C in the second that the imports take ends the demo as cleanly as later.
    from langchain_parallel_plus.demo.refusal import explained
    from langchain_parallel_plus.demo.show import show
    from langchain_parallel_plus.demo.terminal import say

    try:
        show(source, sys.stdin.buffer, os.environ, scenarios=scenarios, failing=failing)
    except BrokenPipeError:
        raise
    except Exception as error:
        refusal = explained(error)
        if refusal is None:
            raise
        say(f"demo: {refusal.line}")
        return _REFUSED
    return 0


def _arguments() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m langchain_parallel_plus.demo",
        description="Write a brief of a document with a fan-out and a synthesis, then print the report of the run and "
        "the measured times of three scenarios.",
        epilog="With OPENAI_API_KEY the model is OpenAI's (OPENAI_MODEL and OPENAI_BASE_URL are honoured), without "
        "it a small embedded one. The brief goes to standard output, progress to standard error. Exit codes: 0, 2 when "
        "something is for you to put right, 130 after Ctrl-C.",
    )
    parser.add_argument(
        "file",
        nargs="?",
        metavar="FILE|-",
        help="a text file, or - for standard input (default: a chapter of Python's manual)",
    )
    parser.add_argument("--brief-only", action="store_true", help="leave out the measured scenarios")
    parser.add_argument(
        "--fail",
        choices=("summary", "questions", "key_terms"),
        help="let one part of the brief fail, and see that the brief says so",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
