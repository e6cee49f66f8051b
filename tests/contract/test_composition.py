"""Everything that LangChain does with a Runnable works on the fan-out, as it does on `RunnableParallel`."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from operator import itemgetter
from typing import Any

import pytest
from langchain_core.load import dumpd, dumps, load
from langchain_core.runnables import (
    ConfigurableField,
    Runnable,
    RunnableAssign,
    RunnableBinding,
    RunnableConfig,
    RunnableLambda,
    RunnableParallel,
    RunnablePassthrough,
    RunnablePick,
    RunnableSequence,
)

from langchain_parallel_plus import (
    BranchPolicy,
    CircuitBreaker,
    DeclarationError,
    JoinPolicy,
    RetryPolicy,
    RunnableParallelPlus,
    RunnableWithPolicy,
)
from tests.contract.probes import Parallel, Runs, plus
from tests.modes import MODES, Mode


def upper(text: str) -> str:
    return text.upper()


def _plain(parallel: Parallel) -> RunnableParallel[Any]:
    return parallel(length=len, upper=upper)


Compose = Callable[[Parallel], Runnable[Any, Any]]
COMPOSED: dict[str, tuple[Compose, Any, Any]] = {
    "before": (lambda p: _plain(p) | itemgetter("length"), "ab", 2),
    "after": (lambda p: RunnableLambda(upper) | _plain(p), "ab", {"length": 2, "upper": "AB"}),
    "function_before": (lambda p: upper | _plain(p), "ab", {"length": 2, "upper": "AB"}),
    "dict_after": (lambda p: _plain(p) | {"n": itemgetter("length")}, "ab", {"n": 2}),
    "dict_before": (lambda p: {"n": RunnableLambda(len)} | p(m=itemgetter("n")), "ab", {"m": 2}),
    "dict_inside": (lambda p: p(x={"n": len, "u": upper}), "ab", {"x": {"n": 2, "u": "AB"}}),
    "dict_as_steps": (lambda p: p({"a b": len, "1": upper}), "ab", {"a b": 2, "1": "AB"}),
    "both_as_steps": (lambda p: p({"a": len}, b=upper), "ab", {"a": 2, "b": "AB"}),
    "in_itself": (lambda p: p(x=p(y=p(z=len))), "ab", {"x": {"y": {"z": 2}}}),
    "upstream_inside": (lambda p: p(x=RunnableParallel(n=len)), "ab", {"x": {"n": 2}}),
    "inside_upstream": (lambda p: RunnableParallel(x=_plain(p)), "ab", {"x": {"length": 2, "upper": "AB"}}),
    "pipe": (lambda p: _plain(p).pipe(itemgetter("upper"), len), "ab", 2),
    "assign": (
        lambda p: _plain(p).assign(double=lambda d: 2 * d["length"]),
        "ab",
        {"length": 2, "upper": "AB", "double": 4},
    ),
    "mapper_of_assign": (lambda p: RunnableAssign(p(n=lambda d: d["a"] + 1)), {"a": 1}, {"a": 1, "n": 2}),
    "pick": (lambda p: _plain(p).pick("length"), "ab", 2),
    "pick_two": (lambda p: _plain(p) | RunnablePick(["upper"]), "ab", {"upper": "AB"}),
    "map": (lambda p: _plain(p).map(), ["a", "bc"], [{"length": 1, "upper": "A"}, {"length": 2, "upper": "BC"}]),
    "with_config": (lambda p: _plain(p).with_config(tags=["t"]), "ab", {"length": 2, "upper": "AB"}),
    "with_types": (lambda p: _plain(p).with_types(input_type=str), "ab", {"length": 2, "upper": "AB"}),
    "bind": (lambda p: _plain(p).bind(stop=["x"]), "ab", {"length": 2, "upper": "AB"}),
    "with_retry": (lambda p: _plain(p).with_retry(), "ab", {"length": 2, "upper": "AB"}),
    "with_fallbacks": (lambda p: p(a=itemgetter("no")).with_fallbacks([_plain(p)]), "ab", {"length": 2, "upper": "AB"}),
    "with_listeners": (lambda p: _plain(p).with_listeners(), "ab", {"length": 2, "upper": "AB"}),
}


@pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")
@pytest.mark.parametrize(("compose", "value", "expected"), COMPOSED.values(), ids=COMPOSED)
async def test_a_composition_gives_the_same_in_all_modes(
    parallel: Parallel, mode: Mode, compose: Compose, value: Any, expected: Any
) -> None:
    runnable = compose(parallel)
    bound = isinstance(runnable, RunnableBinding) and runnable.kwargs
    if bound and mode.name.endswith("transform") and parallel is RunnableParallel:
        pytest.skip("upstream's RunnableParallel.transform takes no arguments besides the config")
    assert await mode.run(runnable, value, None) == expected


@pytest.mark.parametrize(("compose", "value", "expected"), COMPOSED.values(), ids=COMPOSED)
def test_names_types_and_schemas_are_upstreams(compose: Compose, value: Any, expected: Any) -> None:
    theirs, ours = compose(RunnableParallel), compose(RunnableParallelPlus)
    assert type(ours) in (type(theirs), RunnableParallelPlus)
    assert ours.get_name() == theirs.get_name()
    assert (ours.InputType, ours.get_input_jsonschema()) == (theirs.InputType, theirs.get_input_jsonschema())
    assert (ours.OutputType, ours.get_output_jsonschema()) == (theirs.OutputType, theirs.get_output_jsonschema())
    assert ours.config_specs == theirs.config_specs
    named = ours.get_graph().to_json()  # ours says which branch a node begins, "key: name"
    for node in named["nodes"]:
        if node["type"] == "runnable":
            node["data"]["name"] = node["data"]["name"].rpartition(": ")[2]
            assert not node.pop("metadata", None)  # the config's, which upstream does not pass on (D14)
    assert named == theirs.get_graph().to_json()


def test_a_chain_keeps_the_class() -> None:
    fan_out: Any = _plain(RunnableParallelPlus)
    for chain in (fan_out | upper, upper | fan_out, {"a": upper} | fan_out):
        assert isinstance(chain, RunnableSequence)
        assert any(step is fan_out for step in chain.steps)
    binding = fan_out.with_config(tags=["t"])
    assert isinstance(binding, RunnableBinding)
    assert binding.bound is fan_out


@pytest.mark.parametrize("mode", [mode for mode in MODES if not mode.streams], ids=str)  # streams are not retried
async def test_with_retry_repeats_the_whole(parallel: Parallel, mode: Mode) -> None:
    calls: list[str] = []

    def flaky(_: Any) -> str:
        calls.append("flaky")
        if len(calls) < 3:
            raise TimeoutError
        return "in"

    retried = parallel(flaky=flaky).with_retry(wait_exponential_jitter=False)
    assert await mode.run(retried, 0, None) == {"flaky": "in"}


async def test_with_fallbacks_hands_the_error_over(parallel: Parallel, mode: Mode) -> None:
    def fails(_: Any) -> None:
        raise LookupError

    fallback: Any = RunnableLambda(lambda given: type(given["error"]).__name__)
    whole = parallel(a=fails).with_fallbacks([fallback], exceptions_to_handle=(LookupError,), exception_key="error")
    assert await mode.run(whole, {"text": "ab"}, None) == "LookupError"


async def test_configured_branches_are_configured(parallel: Parallel, mode: Mode) -> None:
    step = RunnablePassthrough[Any]().configurable_alternatives(
        ConfigurableField(id="how"), default_key="as_it_is", length=RunnableLambda(len)
    )
    fan_out = parallel(a=step, b=len)
    assert [spec.id for spec in fan_out.config_specs] == ["how"]
    assert await mode.run(fan_out, "ab", None) == {"a": "ab", "b": 2}
    assert await mode.run(fan_out, "ab", {"configurable": {"how": "length"}}) == {"a": 2, "b": 2}


async def test_alternatives_to_a_fan_out(parallel: Parallel, mode: Mode) -> None:
    either = _plain(parallel).configurable_alternatives(
        ConfigurableField(id="which"), default_key="full", short=parallel(length=len)
    )
    assert await mode.run(either, "ab", None) == {"length": 2, "upper": "AB"}
    assert await mode.run(either, "ab", {"configurable": {"which": "short"}}) == {"length": 2}


def test_upstream_cannot_configure_its_fields() -> None:
    configurable = _plain(RunnableParallel).configurable_fields(steps__=ConfigurableField(id="steps"))
    with pytest.raises(TypeError):
        configurable.invoke("ab", {"configurable": {"steps": {"u": RunnableLambda(upper)}}})


async def test_fields_are_configurable(mode: Mode) -> None:
    fan_out = _plain(RunnableParallelPlus).configurable_fields(
        steps__=ConfigurableField(id="steps"), join=ConfigurableField(id="join"), name=ConfigurableField(id="title")
    )
    assert {spec.id for spec in fan_out.config_specs} == {"steps", "join", "title"}
    assert await mode.run(fan_out, "ab", None) == {"length": 2, "upper": "AB"}
    config: RunnableConfig = {"configurable": {"steps": {"u": RunnableLambda(upper)}}}
    assert await mode.run(fan_out, "ab", config) == {"u": "AB"}
    runs = Runs()
    await mode.run(fan_out, "ab", {"configurable": {"title": "research"}, "callbacks": [runs]})
    assert len(runs.named("research")) == 1
    first: RunnableConfig = {"configurable": {"join": JoinPolicy(wait_for=1)}}
    assert len(await mode.run(fan_out, "ab", first)) == 1


async def test_policies_are_configurable(mode: Mode) -> None:
    def fails(_: Any) -> None:
        raise LookupError

    fan_out = plus(a=fails, b=len).configurable_fields(policies=ConfigurableField(id="policies"))
    with pytest.raises(LookupError):
        await mode.run(fan_out, "ab", None)
    config: RunnableConfig = {"configurable": {"policies": BranchPolicy(on_failure="drop")}}
    assert await mode.run(fan_out, "ab", config) == {"b": 2}


POLICIED = plus(length=len, upper=upper, name="three").with_policy(
    BranchPolicy(retry=RetryPolicy(max_attempts=2)), upper=BranchPolicy(fallbacks=[upper], on_failure="keep")
)
COPIED = pytest.mark.parametrize(
    "fan_out",
    [
        _plain(RunnableParallelPlus),
        POLICIED,
        POLICIED.with_join(JoinPolicy(wait_for=2, deadline=60)),
        POLICIED.with_policy(BranchPolicy(breaker=CircuitBreaker())),
    ],
    ids=["plain", "policies", "join", "breaker"],
)


@COPIED
@pytest.mark.parametrize(
    "copied",
    [lambda f: pickle.loads(pickle.dumps(f)), copy.copy, copy.deepcopy, lambda f: f.model_copy()],
    ids=["pickle", "copy", "deepcopy", "model_copy"],
)
@pytest.mark.parametrize("used", [False, True], ids=["fresh", "used"])
def test_a_copy_is_equal_and_works(fan_out: RunnableParallelPlus[Any], copied: Any, used: bool) -> None:
    if used:
        fan_out.invoke("ab")
    twin = copied(fan_out)
    assert type(twin) is RunnableParallelPlus
    assert (twin.policies, twin.join, twin.name, list(twin.steps__)) == (
        fan_out.policies,
        fan_out.join,
        fan_out.name,
        list(fan_out.steps__),
    )
    assert twin.invoke("ab") == {"length": 2, "upper": "AB"}
    if copied is copy.copy:
        assert twin == fan_out


@pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")
def test_what_is_dumped_can_be_loaded() -> None:
    fan_out = plus(a=RunnablePassthrough(), b=plus(c=RunnablePick("x")), name="named")
    loaded = load(
        json.loads(dumps(fan_out)),
        allowed_objects=[RunnableParallelPlus, RunnablePassthrough, RunnablePick],
        valid_namespaces=["langchain_parallel_plus"],
    )
    assert type(loaded) is RunnableParallelPlus
    assert loaded == fan_out
    assert loaded.invoke({"x": 1}) == {"a": {"x": 1}, "b": {"c": 1}}
    assert dumpd(loaded) == dumpd(fan_out)


def test_a_dump_is_what_upstreams_is_but_for_the_name() -> None:
    steps = {"a": RunnablePassthrough[Any](), "b": RunnablePick("x")}
    theirs, ours = dumpd(RunnableParallel(steps)), dumpd(plus(steps))
    assert theirs.pop("id") == ["langchain", "schema", "runnable", "RunnableParallel"]
    assert ours.pop("id") == ["langchain_parallel_plus", "fanout", "RunnableParallelPlus"]
    ours.pop("name", None), theirs.pop("name", None)
    assert ours == theirs


@COPIED
def test_any_fan_out_can_be_written_as_json(fan_out: RunnableParallelPlus[Any]) -> None:
    assert json.loads(dumps(fan_out))["id"][-1] == "RunnableParallelPlus"


def test_branches_may_be_called_like_the_options() -> None:
    fan_out = plus(name=len, policies=upper, join={"n": len}, limits=RunnableLambda(len))
    assert fan_out.invoke("ab") == {"name": 2, "policies": "AB", "join": {"n": 2}, "limits": 2}
    assert fan_out.name is None
    assert fan_out.join is None


@pytest.mark.parametrize("wrong", [3, None, "text", [len]])
def test_what_cannot_be_a_branch_is_refused_at_once(parallel: Parallel, wrong: Any) -> None:
    with pytest.raises((TypeError, DeclarationError)):
        parallel(a=wrong)


async def test_a_policy_around_the_whole_fan_out(mode: Mode) -> None:
    calls: list[int] = []

    def flaky(_: Any) -> str:
        calls.append(1)
        if len(calls) == 1:
            raise TimeoutError
        return "in"

    whole: Runnable[Any, Any] = RunnableWithPolicy(plus(a=flaky), BranchPolicy(retry=RetryPolicy(initial_interval=0)))
    assert await mode.run(whole, 0, None) == {"a": "in"}
