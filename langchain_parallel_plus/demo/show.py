"""The demo from beginning to end: read, choose a model, stream the brief, print the report, time the scenarios."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from langchain_parallel_plus import FanOutError, collect_report
from langchain_parallel_plus.demo.brief import brief_chain
from langchain_parallel_plus.demo.document import fitted, read_document
from langchain_parallel_plus.demo.model import chosen_model
from langchain_parallel_plus.demo.scenarios import measured_scenarios, table_head, table_row
from langchain_parallel_plus.demo.terminal import say, write

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import BinaryIO

    from langchain_parallel_plus.demo.document import Document
    from langchain_parallel_plus.demo.model import DemoModel

__all__ = ("show",)


def show(
    source: str | None,
    stdin: BinaryIO,
    environ: Mapping[str, str],
    *,
    scenarios: bool = True,
    failing: str | None = None,
) -> None:
    """Run the demo.

    Args:
        source: The document: a path, `-` for standard input, `None` for the demo's own text.
        stdin: Standard input.
        environ: Environment variables, which choose the model.
        scenarios: Whether to time the scenarios after the brief.
        failing: The name of a part of the brief that is made to fail.

    Raises:
        Refusal: If something is for the user to put right.
        KeyboardInterrupt: On Ctrl-C, after what is finished has been printed.
    """
    document = read_document(source, stdin)
    with chosen_model(environ) as model:
        say(f"model: {model.label}")
        document, note = fitted(document, model.window)
        say(f"document: {document.name}" + (f"; {note}, which is all that this model takes" if note else ""))
        _stream_brief(document, model, failing)
    if not scenarios:
        return
    write("\n" + table_head())
    for measured in measured_scenarios():
        write(table_row(measured))


def _stream_brief(document: Document, model: DemoModel, failing: str | None) -> None:
    parts: dict[str, str] = {}
    started = time.monotonic()
    telling, over = threading.Lock(), threading.Event()

    def finished(part: str, text: str) -> None:
        with telling:  # a part that is left behind by a failure must not speak after the error
            if not over.is_set():
                parts[part] = text
                say(f"  {part} is in after {time.monotonic() - started:.1f} s")

    def stop() -> None:
        with telling:
            over.set()

    chain = brief_chain(model, finished=finished, failing=failing)
    say("writing summary, questions and key terms at once ...")
    try:
        with collect_report() as report:
            provenance = None
            for chunk in chain.stream({"document": document.text}):
                if chunk.output is not None:
                    write(chunk.output.text, end="")
                provenance = chunk.provenance or provenance
            write(f"\n\nThis brief: {provenance}\n")
    except (FanOutError, BrokenPipeError):
        raise  # too few parts to speak of, or nobody to show them to
    except BaseException:  # Ctrl-C, or the synthesis failed: the finished parts are the user's all the same
        stop()
        _show_finished(parts)
        raise
    finally:
        stop()
    write(str(report))


def _show_finished(parts: Mapping[str, str]) -> None:
    say(f"\nstopped; finished by then: {', '.join(parts) or 'nothing'}")
    for part, text in parts.items():
        write(f"\n{part}:\n{text}")
