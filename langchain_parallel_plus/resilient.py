"""One runnable under a `BranchPolicy`, for use anywhere in a chain."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from langchain_core.runnables import Runnable, RunnableConfig, RunnableSerializable
from langchain_core.runnables.base import coerce_to_runnable
from langchain_core.runnables.utils import ConfigurableFieldSpec, Input, Output, get_unique_config_specs
from pydantic import ConfigDict, PrivateAttr, SkipValidation

from langchain_parallel_plus._engine import policy_tasks, policy_threads
from langchain_parallel_plus._engine.batch_methods import SharedCapBatch
from langchain_parallel_plus._engine.breaker_guard import BREAKERS
from langchain_parallel_plus._engine.budget import BUDGETS
from langchain_parallel_plus._engine.charging import Charge
from langchain_parallel_plus._engine.clock import SYSTEM
from langchain_parallel_plus._engine.guarded import Targets
from langchain_parallel_plus._engine.hedge_state import HEDGES
from langchain_parallel_plus._engine.machine import Instead, Plan
from langchain_parallel_plus._engine.namespace import namespace
from langchain_parallel_plus._engine.owned import owning
from langchain_parallel_plus._engine.policy_run import PolicyRun, scope_of
from langchain_parallel_plus._engine.prepared import for_tasks, for_threads
from langchain_parallel_plus._engine.remade import Remade
from langchain_parallel_plus._engine.scope import current_scope
from langchain_parallel_plus._engine.stream_methods import ClosingStreams
from langchain_parallel_plus._engine.traced import atraced, traced
from langchain_parallel_plus._engine.unheard import AsyncUnheard, Unheard, unheard
from langchain_parallel_plus.observe.watched import watch
from langchain_parallel_plus.policy import BranchPolicy, Fallback, checked_policy
from langchain_parallel_plus.policy.plain import plain, policy_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
    from uuid import UUID

    from langchain_core.callbacks import (
        AsyncCallbackManagerForChainRun,
        BaseCallbackManager,
        CallbackManagerForChainRun,
    )
    from langchain_core.load.serializable import SerializedConstructor, SerializedNotImplemented
    from langchain_core.runnables.graph import Graph
    from langchain_core.utils.pydantic import TypeBaseModel

    from langchain_parallel_plus._engine.policy_telling import RunManager

__all__ = ("RunnableWithPolicy",)


class RunnableWithPolicy(SharedCapBatch, ClosingStreams, RunnableSerializable[Input, Output]):
    """Run one runnable with the retries, fallbacks and timeouts of a `BranchPolicy`.

    A branch of a `RunnableParallelPlus` that has a policy is exactly this. Elsewhere, put it around the step that may
    fail (usually the model), so that a retry repeats one call and not a whole chain. Streams start again, or elsewhere,
    until the first chunk is delivered, and never after.

    Args:
        bound: A runnable, a function, or a dict of them.
        policy: How it is treated. `on_failure`, `required` and `weight` mean something in a fan-out only.
        name: Name of the run in traces.

    Raises:
        BranchTimeoutError: It took longer than the policy's `timeout`.
        Exception: The last error of `bound`, with a note for each fallback that failed too.

    Example:
        ```python
        model = RunnableWithPolicy(llm, BranchPolicy(retry=RetryPolicy(max_attempts=4), fallbacks=[other_llm]))
        chain = prompt | model | StrOutputParser()
        ```
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    bound: Runnable[Input, Output]
    """What is run."""
    policy: SkipValidation[BranchPolicy]
    """How."""

    _made: Remade[bool, tuple[object, object, str | None, Targets]] = PrivateAttr(default_factory=Remade)

    def __init__(self, bound: Any, policy: BranchPolicy | Mapping[str, Any], *, name: str | None = None) -> None:
        given = policy_of(policy) if isinstance(policy, Mapping) else policy
        checked = checked_policy(given, "the policy of RunnableWithPolicy")
        super().__init__(bound=coerce_to_runnable(bound), policy=checked.checked_charge("the policy"), name=name)

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """Return `True`: the bound runnable travels with it."""
        return True

    @classmethod
    def get_lc_namespace(cls) -> list[str]:
        """Return the module path, which `load` needs for classes outside langchain-core."""
        return namespace(cls)

    def to_json(self) -> SerializedConstructor | SerializedNotImplemented:
        """Return what `dumpd` writes: the policy as plain data."""
        written = super().to_json()
        if written["type"] == "constructor":
            written["kwargs"] = {**written["kwargs"], "policy": plain(self.policy)}
        return written

    def get_name(self, suffix: str | None = None, *, name: str | None = None) -> str:
        """Return the run's name: by default that of what is run."""
        return super().get_name(suffix, name=name or self.name or self.bound.get_name())

    @property
    def InputType(self) -> type[Input]:
        """What it takes."""
        return self.bound.InputType

    @property
    def OutputType(self) -> type[Output]:
        """What it returns."""
        return self.bound.OutputType

    def get_input_schema(self, config: RunnableConfig | None = None) -> TypeBaseModel:
        """Return the schema of what it takes."""
        return self.bound.get_input_schema(config)

    def get_output_schema(self, config: RunnableConfig | None = None) -> TypeBaseModel:
        """Return the schema of what it returns."""
        return self.bound.get_output_schema(config)

    @property
    def config_specs(self) -> list[ConfigurableFieldSpec]:
        """The configurable fields of what is run and of its fallbacks."""
        return get_unique_config_specs(spec for one in self._runnables for spec in one.config_specs)

    def get_graph(self, config: RunnableConfig | None = None) -> Graph:
        """Return the graph of what is run."""
        return self.bound.get_graph(config)

    def invoke(self, input: Input, config: RunnableConfig | None = None, **kwargs: Any) -> Output:
        """Run under the policy."""

        def work(config: RunnableConfig, manager: CallbackManagerForChainRun | Unheard) -> Any:
            run = self._run(manager, SYSTEM.now)
            if not run.scope.heard:
                return policy_threads.invoke(run, input, config, manager, **kwargs)
            with run.telling.whole():
                return policy_threads.invoke(run, input, config, manager, **kwargs)

        above = self._unheard(config)
        if above is not None and config is not None:
            return work(config, Unheard(*above))  # type: ignore[no-any-return]
        output: Output = traced(self.get_name(), input, config, work)
        return output

    async def ainvoke(self, input: Input, config: RunnableConfig | None = None, **kwargs: Any) -> Output:
        """Run under the policy."""

        async def work(config: RunnableConfig, manager: AsyncCallbackManagerForChainRun | AsyncUnheard) -> Any:
            run = self._run(manager, asyncio.get_running_loop().time, in_tasks=True)
            if not run.scope.heard:
                return await policy_tasks.ainvoke(run, input, config, manager, **kwargs)
            with run.telling.whole():
                return await policy_tasks.ainvoke(run, input, config, manager, **kwargs)

        above = self._unheard(config)
        if above is not None and config is not None:
            return await work(config, AsyncUnheard(*above))  # type: ignore[no-any-return]
        output: Output = await atraced(self.get_name(), input, config, work)
        return output

    def _transform(
        self,
        inputs: Iterator[Input],
        run_manager: CallbackManagerForChainRun | Unheard,
        config: RunnableConfig,
        *,
        single: bool = False,
        **kwargs: Any,
    ) -> Generator[Any, None, None]:
        run = self._run(run_manager, SYSTEM.now)
        with run.telling.whole():
            yield from policy_threads.transform(run, inputs, config, run_manager, **kwargs)

    async def _atransform(
        self,
        inputs: AsyncIterator[Input],
        run_manager: AsyncCallbackManagerForChainRun | AsyncUnheard,
        config: RunnableConfig,
        *,
        single: bool = False,
        **kwargs: Any,
    ) -> AsyncGenerator[Any, None]:
        run = self._run(run_manager, asyncio.get_running_loop().time, in_tasks=True)
        stream = policy_tasks.atransform(run, inputs, config, run_manager, **kwargs)
        with run.telling.whole():
            async with owning(stream) as chunks:
                async for chunk in chunks:
                    yield chunk

    @property
    def _runnables(self) -> tuple[Runnable[Any, Any], ...]:
        return (self.bound, *(_called(one) for one in self.policy.fallbacks or ()))

    def _unheard(self, config: RunnableConfig | None) -> tuple[BaseCallbackManager, UUID] | None:
        """Return what stands in for a run of its own: a branch needs none if nobody would hear of it."""
        scope = current_scope.get()
        return unheard(config) if scope is not None and scope.step is self else None

    def _targets(self, in_tasks: bool) -> Targets:
        """Return what is run; made once for as long as the runnable and the policy stay the same objects."""
        known = self._made.get(in_tasks)
        if known is not None and known[0] is self.bound and known[1] is self.policy and known[2] == self.name:
            return known[3]
        runnables = tuple(for_tasks(one) if in_tasks else for_threads(one) for one in self._runnables)
        retry, breaker, hedge = self.policy.retry, self.policy.breaker, self.policy.hedge
        targets = Targets(
            self.get_name(),
            runnables,
            Plan.of(self.policy, tuple(_instead(one) for one in self.policy.fallbacks or ())),
            _charge(self.policy),
            BUDGETS.of(retry.budget) if retry and retry.budget is not None else None,
            BREAKERS.of(breaker) if breaker else None,
            HEDGES.of(hedge) if hedge and hedge.max_hedges else None,
        )
        self._made[in_tasks] = (self.bound, self.policy, self.name, targets)
        return targets

    def _run(
        self,
        manager: RunManager,
        now: Callable[[], float],
        *,
        in_tasks: bool = False,
    ) -> PolicyRun:
        targets = self._targets(in_tasks)
        scope = scope_of(current_scope.get(), self, targets.name, manager, now)
        return PolicyRun(targets, manager, scope, now)


def _called(fallback: Any) -> Runnable[Any, Any]:
    called: Runnable[Any, Any] = fallback.runnable if isinstance(fallback, Fallback) else fallback
    return called


def _instead(fallback: Any) -> Instead:
    """Return what is to be known of a fallback: one under a policy of its own keeps to that."""
    called = _called(fallback)
    own = called.policy if isinstance(called, RunnableWithPolicy) else BranchPolicy()
    which = fallback if isinstance(fallback, Fallback) else None
    return Instead(which, own_retry=own.retry is not None, own_timeout=own.timeout is not None)


def _charge(policy: BranchPolicy) -> Charge | None:
    if not policy.limiter:
        return None
    watch(policy.limiter)
    return Charge(policy.limiter) if policy.cost is None else Charge(policy.limiter, policy.cost)
