"""The gate: limits every model call inside a branch, at any depth, without wrapping the model.

Two callback handlers, one synchronous and one asynchronous, sit in context variables that LangChain consults whenever
it configures callbacks (`register_configure_hook`). So they see the start of every model call in the branch's context:
in chains, lambdas, tools and graphs, under `callbacks=[]`, and in direct `model.generate` calls. What langchain-core
1.7 and 1.8 ask of them:

- An inline synchronous handler would block the event loop; an asynchronous one is run on a fresh loop for every event
  of a synchronous call, and its errors are swallowed there. So each acts only where it is right: the asynchronous one
  is ignored where no loop runs, and the synchronous one leaves a call to it that a coroutine tells it of. What a plain
  function tells of on a loop's thread is a synchronous call there, which blocks the loop by itself.
- Their order is any: managers that are merged (by a binding, a retry) put handlers through a set.
- A cancelled `ainvoke`, a refused start and an abandoned stream fire no end: the branch's `sweep` closes them.
- Both the outer and the inner handlers of nested fan-outs fire for one run: the first one claims it, for the innermost
  branch.
- All prompts of a `generate` start before the first call is made: they share one slot of a concurrency.
- A cache hit starts and ends like a call; its end says so, and everything is given back.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.tracers.context import register_configure_hook

from langchain_parallel_plus.errors import LimiterError
from langchain_parallel_plus.limits.gate.admission import admit_in_task, admit_in_thread, admit_on_loop_thread
from langchain_parallel_plus.limits.gate.heard import classify_failed_call, heard_in_answer, heard_in_error
from langchain_parallel_plus.limits.gate.invocation import describe_call
from langchain_parallel_plus.limits.gate.ledger import BranchBook, Ledger, OpenCall
from langchain_parallel_plus.limits.gate.scope import GateScope
from langchain_parallel_plus.limits.passes import hold_pass
from langchain_parallel_plus.limits.tokens.usage import read_usage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextvars import Context
    from uuid import UUID

    from langchain_core.messages import BaseMessage
    from langchain_core.outputs import LLMResult

__all__ = ("BranchGate", "GateScope")

_LEDGER = Ledger()


class Start(NamedTuple):
    """What the first callback of a run is given."""

    serialized: object
    prompt: Sequence[BaseMessage] | str
    facts: Mapping[str, Any]


class BranchGate:
    """The gate of one branch.

    Args:
        scope: The branch.

    Example:
        ```python
        gate = BranchGate(scope)
        context = contextvars.copy_context()
        gate.enter(context)
        try:
            output = context.run(step.invoke, value, config)
        finally:
            gate.sweep()
        ```
    """

    def __init__(self, scope: GateScope) -> None:
        self.scope = scope
        self._task_handler = _TaskHandler(self)
        self._thread_handler = _ThreadHandler(self)
        self._book = BranchBook()

    def enter(self, context: Context) -> None:
        """Gate every model call that runs in `context` or in a copy of it."""
        context.run(_TASK_HANDLER.set, self._task_handler)
        context.run(_THREAD_HANDLER.set, self._thread_handler)

    def sweep(self) -> None:
        """Close every call of the branch that is still open: the branch has ended, however it did.

        Tokens of a call that may have been sent stay spent; slots go back, and calls that still wait stop waiting.
        """
        for run_id in self._book.runs():
            if (call := _LEDGER.take(run_id)) is not None:
                call.abandon()

    def start_in_thread(self, run_id: UUID, start: Start, *, awaited: bool) -> None:
        """Admit a run that starts, blocking this thread until it may go; or raise what a task's start left.

        Args:
            run_id: The run.
            start: What is known of it.
            awaited: Whether a coroutine waits for the start: then `start_in_task` admits it.
        """
        if awaited:
            self._raise_refusal(run_id)
            return
        call = self._claim(run_id, start)
        if call is None:
            return
        on_loop_thread = _on_loop_thread()
        try:
            (admit_on_loop_thread if on_loop_thread else admit_in_thread)(call)
        except BaseException as error:
            call.tell_refusal(error)
            call.group.refund()
            if not on_loop_thread:
                # Else the run stays claimed until the sweep: langchain-core runs the asynchronous handlers of a
                # synchronous call even after a synchronous one has refused it.
                _LEDGER.take(run_id)
            raise

    async def start_in_task(self, run_id: UUID, start: Start) -> None:
        """Admit a run that starts, awaiting until it may go.

        A refusal is left to the synchronous handler, if that is still to come: langchain-core makes the coroutines of
        all handlers first, and Python warns of those that are never awaited because one before them has raised.
        """
        call = self._claim(run_id, start)
        if call is None:
            return
        try:
            await admit_in_task(call)
        except BaseException as error:
            call.tell_refusal(error)
            call.group.refund()
            if isinstance(error, GeneratorExit) or call.book.has_passed(run_id):
                _LEDGER.take(run_id)
                raise
            call.refused = error

    def _raise_refusal(self, run_id: UUID) -> None:
        call = _LEDGER.find(run_id)
        if call is None:
            self._innermost()._book.let_pass(run_id)
        elif call.refused is not None:
            _LEDGER.take(run_id)
            refused, call.refused = call.refused, None
            raise refused

    def end(self, run_id: UUID, response: LLMResult) -> None:
        """Settle a run that has ended; again, or unknown, it changes nothing."""
        if (call := _LEDGER.take(run_id)) is None:
            return
        usage = read_usage(response, batch=call.group.size)
        call.settle(usage, heard_in_answer(response, time.time()))
        paid = None if usage is not None and usage.from_cache else usage
        call.scope.settled(usage=paid, model=call.request.model, call=run_id)

    def fail(self, run_id: UUID, error: BaseException, response: object) -> None:
        """Close a run that has failed, and heed what the provider said; again, or unknown, it changes nothing."""
        if (call := _LEDGER.take(run_id)) is None:
            return
        # A limiter of the model's own that refuses does so before a request goes out.
        sent = not isinstance(error, LimiterError)
        snapshot = heard_in_error(error, response, time.time()) if sent else None
        call.fail(classify_failed_call(error, response), snapshot, sent=sent)
        call.scope.settled(usage=None, model=call.request.model, call=run_id, failed=True)

    def _claim(self, run_id: UUID, start: Start) -> OpenCall | None:
        if _LEDGER.find(run_id) is not None:
            return None
        serialized, prompt, facts = start
        gate = self._innermost()
        call = OpenCall(
            run_id=run_id,
            request=describe_call(serialized, prompt, facts),
            scope=gate.scope.current(),
            book=gate._book,
            group=gate._book.group(facts.get("batch_size"), facts.get("invocation_params")),
            serialized=serialized,
        )
        if not _LEDGER.claim(call):
            return None
        hold_pass(call.call_pass)
        return call

    def _innermost(self) -> BranchGate:
        innermost = _THREAD_HANDLER.get()
        return self if innermost is None else innermost.gate


class _Handler(BaseCallbackHandler):
    """What both handlers have in common: they look at model calls only, in line, and their refusals propagate."""

    raise_error = True
    run_inline = True
    # Plain attributes: every event of every chain in the branch looks at one of them, twice.
    ignore_agent = True
    ignore_chain = True
    ignore_custom_event = True
    ignore_retriever = True
    ignore_retry = True

    def __init__(self, gate: BranchGate) -> None:
        self.gate = gate


class _TaskHandler(_Handler):
    """Admits the calls of tasks. Only its starts are coroutines, so that a token costs synchronous calls nothing."""

    @property
    def ignore_chat_model(self) -> bool:
        return not _on_loop_thread()

    @property
    def ignore_llm(self) -> bool:
        return not _on_loop_thread()

    async def on_chat_model_start(
        self, serialized: dict[str, Any], messages: list[list[BaseMessage]], *, run_id: UUID, **facts: Any
    ) -> None:
        await self.gate.start_in_task(run_id, Start(serialized, messages[0], facts))

    async def on_llm_start(self, serialized: dict[str, Any], prompts: list[str], *, run_id: UUID, **facts: Any) -> None:
        await self.gate.start_in_task(run_id, Start(serialized, prompts[0], facts))


class _ThreadHandler(_Handler):
    """Admits the calls of threads, and closes the calls of both."""

    def on_chat_model_start(
        self, serialized: dict[str, Any], messages: list[list[BaseMessage]], *, run_id: UUID, **facts: Any
    ) -> None:
        self.gate.start_in_thread(run_id, Start(serialized, messages[0], facts), awaited=_told_by_coroutine())

    def on_llm_start(self, serialized: dict[str, Any], prompts: list[str], *, run_id: UUID, **facts: Any) -> None:
        self.gate.start_in_thread(run_id, Start(serialized, prompts[0], facts), awaited=_told_by_coroutine())

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **facts: Any) -> None:
        self.gate.end(run_id, response)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, response: object = None, **facts: Any) -> None:
        self.gate.fail(run_id, error, response)


_TASK_HANDLER: ContextVar[_TaskHandler | None] = ContextVar("lcpp_gate_task_handler", default=None)
_THREAD_HANDLER: ContextVar[_ThreadHandler | None] = ContextVar("lcpp_gate_thread_handler", default=None)
# In this order, so that a refusal is most often raised by the last handler: see `start_in_task`.
register_configure_hook(_TASK_HANDLER, inheritable=True)
register_configure_hook(_THREAD_HANDLER, inheritable=True)


def _on_loop_thread() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _told_by_coroutine() -> bool:
    """Tell whether the handler that asks was called by a coroutine: `ahandle_event`, and not `handle_event`."""
    caller = sys._getframe(2)
    return bool(caller.f_code.co_flags & inspect.CO_COROUTINE)
