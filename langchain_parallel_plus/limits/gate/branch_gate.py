"""The gate: limits every model call inside a branch, at any depth, without wrapping the model.

A callback handler sits in a context variable that LangChain consults whenever it configures callbacks
(`register_configure_hook`). So it sees the start of every model call in the branch's context: in chains, lambdas, tools
and graphs, under `callbacks=[]`, and in direct `model.generate` calls. What langchain-core 1.7 and 1.8 ask of it:

- An inline plain callback would block the event loop; a coroutine one is run on a fresh loop for every event of a
  synchronous call, and its errors are swallowed there. So the callbacks of a start are both: a coroutine function for
  the coroutine that tells handlers of asynchronous calls, and a plain one for the function that does so in synchronous
  calls. On a loop's thread such a call blocks the loop by itself.
- It is one handler, because every event of every run below costs each of them a coroutine, and a model call some
  microseconds more: `BaseChatModel._should_stream` holds each against a protocol.
- The order of handlers is any: managers that are merged (by a binding, a retry) put them through a set.
- A cancelled `ainvoke`, a refused start and an abandoned stream fire no end: the branch's `sweep` closes them.
- Both the outer and the inner handler of nested fan-outs are told of one run: the innermost branch's has it.
- All prompts of a `generate` start before the first call is made: they share one slot of a concurrency.
- A cache hit starts and ends like a call; its end says so, and everything is given back.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
import time
from contextvars import ContextVar
from types import MethodType
from typing import TYPE_CHECKING, Any, TypeAlias

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.tracers.context import register_configure_hook

from langchain_parallel_plus.errors import LimiterError
from langchain_parallel_plus.limits.branch_scope import GateScope
from langchain_parallel_plus.limits.gate.admission import admit_in_task, admit_in_thread, admit_on_loop_thread
from langchain_parallel_plus.limits.gate.heard import classify_failed_call, heard_in_answer, heard_in_error
from langchain_parallel_plus.limits.gate.invocation import describe_call
from langchain_parallel_plus.limits.gate.ledger import BranchBook, Ledger, OpenCall
from langchain_parallel_plus.limits.gate.refusals import refuses
from langchain_parallel_plus.limits.passes import CallPass, hold_pass
from langchain_parallel_plus.limits.tokens.usage import read_usage, split_usage

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence
    from contextvars import Context
    from uuid import UUID

    from langchain_core.messages import BaseMessage
    from langchain_core.outputs import LLMResult

    from langchain_parallel_plus.limits.tokens.usage import Usage

__all__ = ("BranchGate", "GateScope")

_LEDGER = Ledger()

_Prompt: TypeAlias = "Sequence[BaseMessage] | str"


class _Start:
    """A callback that a coroutine gets as a coroutine function, and everybody else as a plain one."""

    def __init__(self, in_thread: Callable[..., None], in_task: Callable[..., Coroutine[Any, Any, None]]) -> None:
        self._in_thread = in_thread
        self._in_task = in_task

    def __get__(self, gate: BranchGate | None, owner: type[BranchGate]) -> Any:
        if gate is None:
            return self
        told_by_coroutine = sys._getframe(1).f_code.co_flags & inspect.CO_COROUTINE  # `ahandle_event` or `handle_event`
        return MethodType(self._in_task if told_by_coroutine else self._in_thread, gate)


@refuses
class BranchGate(BaseCallbackHandler):
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

    raise_error = True
    run_inline = True
    # Plain attributes: every event of every run in the branch looks at one of them.
    ignore_agent = True
    ignore_chain = True
    ignore_chat_model = False
    ignore_custom_event = True
    ignore_llm = False
    ignore_retriever = True
    ignore_retry = True

    def __init__(self, scope: GateScope) -> None:
        self.scope = scope
        self._book = BranchBook()

    def enter(self, context: Context) -> None:
        """Gate every model call that runs in `context` or in a copy of it."""
        context.run(_GATE.set, self)

    def sweep(self) -> None:
        """Close every call of the branch that is still open: the branch has ended, however it did.

        Tokens of a call that may have been sent stay spent; slots go back, and calls that still wait stop waiting.
        """
        for run_id in self._book.runs():
            if (call := _LEDGER.take(run_id)) is not None:
                call.abandon()

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **facts: Any) -> None:
        """Settle a run that has ended; again, or unknown, it changes nothing."""
        if (call := _LEDGER.take(run_id)) is None:
            return
        usage = _used(call, response)
        call.settle(usage, heard_in_answer(response, time.time()))
        paid = None if usage is not None and usage.from_cache else usage
        call.scope.settled(usage=paid, model=call.request.model, call=run_id)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, response: object = None, **facts: Any) -> None:
        """Close a run that has failed, and heed what the provider said; again, or unknown, it changes nothing."""
        if (call := _LEDGER.take(run_id)) is None:
            return
        # A limiter of the model's own that refuses does so before a request goes out.
        sent = not isinstance(error, LimiterError)
        snapshot = heard_in_error(error, response, time.time()) if sent else None
        call.fail(classify_failed_call(error, response), snapshot, sent=sent)
        call.scope.settled(usage=None, model=call.request.model, call=run_id, failed=True)

    def _starts_in_thread(
        self, serialized: dict[str, Any], prompts: Sequence[_Prompt], *, run_id: UUID, **facts: Any
    ) -> None:
        """Admit a run that starts, blocking this thread until it may go."""
        call = self._claim(run_id, serialized, prompts[0], facts)
        if call is None:
            return
        try:
            (admit_on_loop_thread if _on_loop_thread() else admit_in_thread)(call)
        except BaseException as error:
            call.tell_refusal(error)
            _refuse(call)
            raise
        _listen(call)

    async def _starts_in_task(
        self, serialized: dict[str, Any], prompts: Sequence[_Prompt], *, run_id: UUID, **facts: Any
    ) -> None:
        """Admit a run that starts, awaiting until it may go."""
        call = self._claim(run_id, serialized, prompts[0], facts)
        if call is None:
            return
        try:
            await admit_in_task(call)
        except BaseException as error:
            call.tell_refusal(error)
            _refuse(call)
            raise
        _listen(call)

    on_chat_model_start = _Start(_starts_in_thread, _starts_in_task)
    on_llm_start = on_chat_model_start

    def _claim(self, run_id: UUID, serialized: object, prompt: _Prompt, facts: Mapping[str, Any]) -> OpenCall | None:
        """Return the call of a run for its innermost branch, whose handler is told of it too; or `None`.

        Where the context was lost, it is anybody's: the first to be told has it, and the limiters of others admit too.
        """
        innermost = _GATE.get()
        if innermost is not None and innermost is not self:
            return None
        request = describe_call(serialized, prompt, facts)
        call = OpenCall(
            run_id=run_id,
            request=request,
            scope=self.scope.current(),
            book=self._book,
            group=self._book.group(facts.get("batch_size"), facts.get("invocation_params")),
            call_pass=CallPass((run_id, request.model)),
            serialized=serialized,
        )
        if not _LEDGER.claim(call):
            return self._join(run_id)
        hold_pass(call.call_pass)
        return call

    def _join(self, run_id: UUID) -> OpenCall | None:
        """Return another branch's call if this one's limiters have yet to admit it."""
        call = _LEDGER.find(run_id)
        if call is None or call.ended or set(self.scope.limiters) <= set(call.scope.limiters):
            return None
        call.scope = self.scope.current()
        return call


_GATE: ContextVar[BranchGate | None] = ContextVar("lcpp_gate", default=None)
register_configure_hook(_GATE, inheritable=True)


def _used(call: OpenCall, response: LLMResult) -> Usage | None:
    """Return what a call has used; of a completion model's batch, its share of the sum that comes with one of it."""
    usage, group = read_usage(response), call.group
    if group is None or not isinstance(call.request.prompt, str):
        return usage
    if usage is not None:
        calls = group.calls
        parts = split_usage(usage, [one.estimated for one in calls])
        group.shares = {one.run_id: part for one, part in zip(calls, parts, strict=True)}
    return group.shares.get(call.run_id)


def _listen(call: OpenCall) -> None:
    """Give back what the call holds when nobody waits for it any more: an attempt's time is over, its hedge has won."""
    if call.forget is not None:  # joined by another branch's limiters: it is listened to already
        return

    def abandon() -> None:
        if _LEDGER.take(call.run_id) is call:
            call.abandon()

    forget = call.scope.on_cancel(abandon)
    if call.ended:
        forget()
    else:
        call.forget = forget


def _refuse(call: OpenCall) -> None:
    call.refuse()
    _LEDGER.take(call.run_id)


def _on_loop_thread() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
