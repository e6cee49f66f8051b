"""`RunnableParallelPlus`: the fan-out."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from langchain_core.runnables import Runnable, RunnableConfig, RunnableParallel, RunnableSequence
from langchain_core.runnables.graph import Graph
from langchain_core.runnables.utils import Input
from pydantic import Field, PrivateAttr, SkipValidation

from langchain_parallel_plus._engine import tasks, threads
from langchain_parallel_plus._engine.batch_methods import SharedCapBatch
from langchain_parallel_plus._engine.fan_out import Branch, FanOut
from langchain_parallel_plus._engine.namespace import namespace
from langchain_parallel_plus._engine.owned import owning
from langchain_parallel_plus._engine.prepared import for_tasks, for_threads
from langchain_parallel_plus._engine.remade import Remade
from langchain_parallel_plus._engine.stream_methods import ClosingStreams
from langchain_parallel_plus._engine.traced import atraced, traced
from langchain_parallel_plus.display.declared import DeclaredBranch, declared_html, declared_text
from langchain_parallel_plus.display.mermaid import branch_label, free_name, is_branch, node_label
from langchain_parallel_plus.errors import DeclarationError
from langchain_parallel_plus.limits import RateLimiter
from langchain_parallel_plus.observe.watched import watch
from langchain_parallel_plus.policy import BranchPolicies, BranchPolicy, JoinPolicy, checked_policy
from langchain_parallel_plus.policy.plain import join_of, plain, policies_of
from langchain_parallel_plus.resilient import RunnableWithPolicy

if TYPE_CHECKING:
    from langchain_core.callbacks import AsyncCallbackManagerForChainRun, CallbackManagerForChainRun
    from langchain_core.load.serializable import SerializedConstructor, SerializedNotImplemented

    from langchain_parallel_plus.outcome import FanOutDict

__all__ = ("RunnableParallelPlus", "checked_limits")

Step = Runnable[Input, Any] | Callable[[Input], Any]
BranchLike = Step[Input] | Mapping[str, Step[Input]]
Limits = RateLimiter | Sequence[RateLimiter]
Policies = BranchPolicies | BranchPolicy | Mapping[str, BranchPolicy]

_NAME_LENGTH = 80


class RunnableParallelPlus(SharedCapBatch, ClosingStreams, RunnableParallel[Input]):
    """Run branches at once on the same input and return their outputs by name: `RunnableParallel` for production.

    Without options it behaves as `RunnableParallel` does, in all modes. `with_policy` says how each branch is retried,
    timed out and replaced, `with_limits` under which rate limits its model calls go out, `with_join` when the result is
    complete. Each returns a copy.

    A branch's exception ends the fan-out and is raised as it is, with a note, and with what the other branches had
    finished in `exc.fan_out` (see `fan_out_results`). Branches that still run are cancelled; a thread cannot be: its
    result is discarded, and its next model call refused.

    `max_concurrency` in the config is one cap for everything below the call: batch items, branches and nested fan-outs
    together.

    Args:
        steps__: The branches by name: runnables, functions, or dicts of them.
        name: Name of the run in traces.
        policies: A `BranchPolicy` for all branches, or one for each of some branches by name.
        join: When the fan-out is done. By default when all branches are.
        limits: One rate limiter or several; a model call waits for all that govern it.
        **branches: More branches. One named `name`, `policies`, `join` or `limits` is a branch if its value can be one.

    Raises:
        DeclarationError: A policy names no branch, a quorum is larger than the fan-out, or an argument has the wrong
            type. Nothing was called.

    Example:
        ```python
        fan_out = RunnableParallelPlus(length=len, upper=str.upper)
        assert fan_out.invoke("word") == {"length": 4, "upper": "WORD"}
        ```
    """

    policies: SkipValidation[BranchPolicies] = Field(default_factory=BranchPolicies)
    """How branches are treated."""
    join: SkipValidation[JoinPolicy | None] = None
    """When the fan-out is done."""
    limits: SkipValidation[tuple[RateLimiter, ...]] = ()
    """Under which rate limits the branches' model calls go out."""

    _leaf_items: ClassVar[bool] = False

    _branches: Remade[str, tuple[tuple[object, ...], Branch]] = PrivateAttr(default_factory=Remade)
    _dynamic: bool = PrivateAttr(default=False)

    def __init__(
        self,
        steps__: Mapping[str, BranchLike[Input]] | None = None,
        *,
        name: str | BranchLike[Input] | None = None,
        policies: Policies | BranchLike[Input] | None = None,
        join: JoinPolicy | BranchLike[Input] | None = None,
        limits: Limits | BranchLike[Input] | None = None,
        **branches: BranchLike[Input],
    ) -> None:
        options = {"name": name, "policies": policies, "join": join, "limits": limits}
        also_branches: dict[str, Any] = {key: value for key, value in options.items() if _is_branch(value)}
        super().__init__(steps__, **branches, **also_branches)
        given = {key: value for key, value in options.items() if key not in also_branches}
        keys = tuple(self.steps__)
        self.name = _checked_name(given.get("name"))
        self.policies = _policies(given.get("policies")).checked_for(keys)
        self.join = _checked_join(given.get("join"), len(keys))
        self.limits = checked_limits(given.get("limits"))
        self._check_deadline()

    def with_policy(self, default: BranchPolicy | None = None, /, **by_branch: BranchPolicy) -> Self:
        """Return a copy whose branches are retried, timed out and replaced as said.

        Fields left out keep what they were: a branch's own policy is laid over the default, field by field.

        Args:
            default: For every branch.
            **by_branch: For single branches, by name.

        Raises:
            UnknownBranchError: A name is no branch.

        Example:
            ```python
            fan_out.with_policy(
                BranchPolicy(retry=RetryPolicy(max_attempts=4)),
                summary=BranchPolicy(on_failure="keep"),
            )
            ```
        """
        if default is not None:
            checked_policy(default, "the default of with_policy")
        return self._but(policies=self.policies.but(default, by_branch).checked_for(tuple(self.steps__)))

    def with_limits(self, *limiters: RateLimiter) -> Self:
        """Return a copy whose branches' model calls also wait for `limiters`, at any depth below the branch."""
        return self._but(limits=tuple(dict.fromkeys((*self.limits, *checked_limits(limiters)))))

    def with_join(self, join: JoinPolicy) -> Self:
        """Return a copy that is done when `join` says so."""
        return self._but(join=_checked_join(join, len(self.steps__)))

    def _but(self, **changes: Any) -> Self:
        changed = self.model_copy(update=changes)
        changed._branches = Remade()
        changed._check_deadline()
        return changed

    def _check_deadline(self) -> None:
        if self.join is not None:
            self.policies.checked_within(self.join, tuple(self.steps__))

    @classmethod
    def get_lc_namespace(cls) -> list[str]:
        """Return the module path: under upstream's namespace a class of another package can never be loaded."""
        return namespace(cls)

    def get_name(self, suffix: str | None = None, *, name: str | None = None) -> str:
        """Return the name of the run; of many branches it shows the first ones."""
        shown = name or self.name or _name_of(tuple(self.steps__))
        return super().get_name(suffix, name=shown)

    def to_json(self) -> SerializedConstructor | SerializedNotImplemented:
        """Return what `dumpd` writes: the options as plain data, and none that are left out."""
        written = super().to_json()
        if written["type"] == "constructor":
            options = {"policies": plain(self.policies), "join": self.join and plain(self.join)}
            options["limits"] = [limiter.declaration for limiter in self.limits]
            rest = {key: value for key, value in written["kwargs"].items() if key not in options}
            written["kwargs"] = {**rest, **{key: value for key, value in options.items() if value}}
        return written

    def _repr_html_(self) -> str:
        return declared_html(self.get_name(), self._facts(), self._declared())

    def __str__(self) -> str:
        return declared_text(self.get_name(), self._facts(), self._declared())

    def _facts(self) -> list[str]:
        many = len(self.steps__)
        counted = "1 branch" if many == 1 else f"{many} branches"
        return [counted] if self.join is None else [counted, repr(self.join)]

    def _declared(self) -> list[DeclaredBranch]:
        """Return each branch in words, with its policy and its limits as they apply."""
        found = []
        for key, step in self.steps__.items():
            policy = self.policies.for_branch(key)
            limits = (*self.limits, *([policy.limiter] if policy.limiter else []))
            shown = repr(replace(policy, limiter=None)).removeprefix("BranchPolicy(").removesuffix(")")
            found.append(DeclaredBranch(key, _steps(step), shown or "-", ", ".join(map(_quota, limits)) or "-"))
        return found

    def get_graph(self, config: RunnableConfig | None = None) -> Graph:
        """Return the graph of the fan-out: each branch between one input and one output, its first node named by it."""
        graph = Graph()
        start = graph.add_node(self.get_input_schema(config))
        end = graph.add_node(self.get_output_schema(config))
        _readable(graph)
        for (key, step), declared in zip(self.steps__.items(), self._declared(), strict=True):
            branch = _readable(step.get_graph(config))
            branch.trim_first_node()
            branch.trim_last_node()
            first, last = graph.extend(_named(branch, key, declared))
            graph.add_edge(start, first or end)
            if last is not None:
                graph.add_edge(last, end)
        return graph

    def invoke(self, input: Input, config: RunnableConfig | None = None, **kwargs: Any) -> dict[str, Any]:
        """Call every branch with `input` and return their outputs by name, in declared order.

        Raises:
            FanOutError: Fewer branches succeeded than the `JoinPolicy` asks for.
            Exception: A branch's own, where its policy does not say to go on without it.
        """
        fan_out = self._fan_out()
        output: dict[str, Any] = traced(
            fan_out.name, input, config, lambda config, manager: threads.invoke(fan_out, input, config, manager)
        )
        return output

    async def ainvoke(self, input: Input, config: RunnableConfig | None = None, **kwargs: Any) -> dict[str, Any]:
        """Call every branch with `input` and return their outputs by name, in declared order.

        Raises:
            FanOutError: Fewer branches succeeded than the `JoinPolicy` asks for.
            Exception: A branch's own, where its policy does not say to go on without it.
        """
        fan_out = self._fan_out()
        output: dict[str, Any] = await atraced(
            fan_out.name, input, config, lambda config, manager: tasks.ainvoke(fan_out, input, config, manager)
        )
        return output

    def _transform(
        self,
        inputs: Iterator[Input],
        run_manager: CallbackManagerForChainRun,
        config: RunnableConfig,
        *,
        single: bool = False,
        **kwargs: Any,
    ) -> Generator[FanOutDict, None, None]:
        yield from threads.transform(self._fan_out(), inputs, config, run_manager, single=single)

    async def _atransform(
        self,
        inputs: AsyncIterator[Input],
        run_manager: AsyncCallbackManagerForChainRun,
        config: RunnableConfig,
        *,
        single: bool = False,
        **kwargs: Any,
    ) -> AsyncGenerator[FanOutDict, None]:
        stream = tasks.atransform(self._fan_out(), inputs, config, run_manager, single=single)
        async with owning(stream) as chunks:
            async for chunk in chunks:
                yield chunk

    def _fan_out(self) -> FanOut:
        return FanOut(
            name=self.get_name(),
            branches=tuple(self._branch(key, step) for key, step in dict(self.steps__).items()),
            join=self.join,
            limiters=self.limits,
            dynamic=self._dynamic,
        )

    def _branch(self, key: str, step: Runnable[Any, Any]) -> Branch:
        """Return the branch ready to run; made once for as long as its step and the policies stay the same objects."""
        basis: tuple[object, ...] = (step, self.policies, self.join)
        known = self._branches.get(key)
        if known is not None and all(a is b for a, b in zip(known[0], basis, strict=True)):
            return known[1]
        policy = self.policies.for_branch(key)
        if policy.acts:
            step = RunnableWithPolicy(bound=step, policy=policy, name=f"branch:{key}")
        tolerant = self.join is not None and self.join.tolerant and not policy.required
        branch = Branch(
            key=key,
            step=step,
            on_failure=policy.on_failure or ("keep" if tolerant else "raise"),
            required=bool(policy.required),
            weight=policy.weight or 1.0,
            for_threads=for_threads(step),
            for_tasks=for_tasks(step),
            limiter=policy.limiter or None,
            policed=policy.acts,
        )
        self._branches[key] = (basis, branch)
        return branch


def _named(branch: Graph, key: str, declared: DeclaredBranch) -> Graph:
    """Return the branch's graph with the branch's name on its first node, and its policy and limits, if it has any."""
    first = branch.first_node()
    if first is not None:
        # Else it would read as the first step's own, or as that of a branch of a fan-out in it.
        of = "" if len(branch.nodes) == 1 and not is_branch(first.name) else " of the whole branch"
        metadata = dict(first.metadata or {})
        for name, value in (("policy", declared.policy), ("limits", declared.limits)):
            if value != "-":
                metadata[free_name(f"{name}{of}", metadata)] = value
        named = first.copy(name=branch_label(key, first.name))
        branch.nodes[first.id] = named._replace(metadata=metadata or first.metadata)
    return branch


def _readable(graph: Graph) -> Graph:
    """Return the graph with names that Mermaid takes for text."""
    graph.nodes |= {key: node.copy(name=node_label(node.name)) for key, node in graph.nodes.items()}
    return graph


def _steps(step: Runnable[Any, Any]) -> str:
    return " | ".join(map(_steps, step.steps)) if isinstance(step, RunnableSequence) else step.get_name()


def _quota(limiter: RateLimiter) -> str:
    return limiter.name or repr(limiter)


def _is_branch(value: object) -> bool:
    if isinstance(value, Mapping):
        return bool(value) and all(_is_branch(one) for one in value.values())
    return isinstance(value, Runnable) or callable(value)


def _name_of(keys: tuple[str, ...]) -> str:
    listed = ",".join(keys[:20])
    if len(keys) <= 20 and len(listed) <= _NAME_LENGTH:
        return f"RunnableParallel<{listed}>"
    shown = listed[:_NAME_LENGTH].rsplit(",", 1)[0]
    return f"RunnableParallel<{shown},... {len(keys)} branches>"


def _checked_name(name: object) -> str | None:
    if name is not None and not isinstance(name, str):
        msg = f"name must be a string or a branch, got {name!r}"
        raise DeclarationError(msg, help="a branch is a runnable, a function, or a dict of them")
    return name


def _policies(policies: object) -> BranchPolicies:
    if policies is None:
        return BranchPolicies()
    if isinstance(policies, BranchPolicies):
        return policies
    if isinstance(policies, BranchPolicy):
        return BranchPolicies(policies)
    if isinstance(policies, Mapping) and policies and all(isinstance(one, Mapping) for one in policies.values()):
        return policies_of(policies)
    if isinstance(policies, Mapping):
        return BranchPolicies(by_branch=dict(policies))
    msg = f"policies takes a BranchPolicy or a dict of them by branch, got {policies!r}"
    raise DeclarationError(msg, help="for example policies={'summary': BranchPolicy(on_failure='keep')}")


def _checked_join(join: object, branches: int) -> JoinPolicy | None:
    if join is None:
        return None
    if isinstance(join, Mapping):
        join = join_of(join)
    if not isinstance(join, JoinPolicy):
        msg = f"join takes a JoinPolicy, got {join!r}"
        raise DeclarationError(msg, help="for example JoinPolicy(min_success=2, deadline=60)")
    return join.checked_for(branches)


def checked_limits(limits: object) -> tuple[RateLimiter, ...]:
    """Return what was given as `limits=`: none, one, several, or their declarations as `dumpd` writes them.

    Raises:
        DeclarationError: It is something else.
    """
    given = () if limits is None else (limits,) if isinstance(limits, RateLimiter) else limits
    for one in given if isinstance(given, Sequence) else (given,):
        if isinstance(one, Mapping):
            continue
        if not isinstance(one, RateLimiter):
            msg = f"limits takes RateLimiters, got {one!r}"
            raise DeclarationError(msg, help="for example RateLimiter(requests_per_minute=500, name='openai')")
    limiters: tuple[RateLimiter, ...] = tuple(
        RateLimiter.declared(one) if isinstance(one, Mapping) else one
        for one in given  # type: ignore[attr-defined]
    )
    watch(*limiters)
    return limiters
