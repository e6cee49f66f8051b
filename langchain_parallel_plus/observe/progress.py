"""`progress()`: how far the runs inside are, in a notebook or a terminal."""

from __future__ import annotations

import shutil
import sys
import threading
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any

from langchain_parallel_plus.observe.event import subscribed
from langchain_parallel_plus.observe.tally import Tallied, Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ("progress",)

_EVERY = 1 / 3
"""Seconds between two updates: with the last one, which waits for nothing, at most four in a second."""


@contextmanager
def progress() -> Iterator[None]:
    """Show how many branches inside are done, run, retry or wait for which limit, at most four times a second.

    In notebooks it is an output that updates itself, in terminals a line on stderr. Where stderr is no terminal it
    does nothing.

    Example:
        ```python
        with progress():
            chain.batch(documents)
        ```
    """
    show = _notebook() or _terminal()
    if show is None:
        yield
        return
    tally, over = Tally(), threading.Event()

    draw = partial(_draw, show, tally.now, over)
    thread = threading.Thread(target=copy_context().run, args=(draw,), name="lcpp-progress", daemon=True)
    thread.start()
    try:
        with subscribed(tally.take_in):
            yield
    finally:
        gone = over.is_set()
        over.set()
        thread.join()
        if not gone:
            _last(show, tally.now())


def _draw(show: Callable[[Tallied, bool], None], now: Callable[[], Tallied], over: threading.Event) -> None:
    try:
        while not over.wait(_EVERY):
            show(now(), False)
    except Exception:  # noqa: BLE001 - an output that is gone ends the display, not the run
        over.set()


def _last(show: Callable[[Tallied, bool], None], told: Tallied) -> None:
    try:
        show(told, True)
    except Exception:  # noqa: BLE001 - as above
        return


def _notebook() -> Callable[[Tallied, bool], None] | None:
    """Return what draws in a notebook, if this is one."""
    ipython: Any = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    if getattr(shell, "kernel", None) is None:
        return None
    from langchain_parallel_plus.display.progress import ProgressLine

    handle = ipython.display.display(ProgressLine(Tallied()), display_id=True)
    return lambda told, _: handle.update(ProgressLine(told))


def _terminal() -> Callable[[Tallied, bool], None] | None:
    """Return what draws on stderr, if that is a terminal."""
    stream = sys.stderr
    if stream is None or not stream.isatty():
        return None
    from langchain_parallel_plus.display.progress import progress_text

    shown = 0

    def show(told: Tallied, last: bool) -> None:
        nonlocal shown
        line = progress_text(told)[: shutil.get_terminal_size().columns - 1]
        stream.write(f"\r{line.ljust(shown)}{chr(10) if last else ''}")
        stream.flush()
        shown = len(line)

    return show
