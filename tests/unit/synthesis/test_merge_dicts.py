from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict

from langchain_parallel_plus import BranchPolicy, DeclarationError, RunnableParallelPlus, SynthesisError
from langchain_parallel_plus.synthesis import MergeDicts
from tests.modes import Mode
from tests.unit.synthesis.loading import lost

SELLER = {"seller": "Ann", "price": 10, "terms": {"days": 30}}
BUYER = {"buyer": "Bob", "price": 12, "terms": {"days": 30, "vat": True}}
OUTPUTS = {"first": SELLER, "second": BUYER}


async def test_the_branches_dicts_become_one(mode: Mode) -> None:
    fan_out = RunnableParallelPlus(second=lambda x: BUYER, first=lambda x: SELLER)
    merged = await mode.run(fan_out | MergeDicts(on_conflict="last"), "deed", None)
    assert merged == {"buyer": "Bob", "price": 10, "terms": {"days": 30, "vat": True}, "seller": "Ann"}
    assert list(merged) == ["buyer", "price", "terms", "seller"]


@pytest.mark.parametrize(
    ("on_conflict", "price"),
    [
        ("first", 10),
        ("last", 12),
        ("list", [10, 12]),
        (lambda key, values: (key, values), ("price", {"first": 10, "second": 12})),
        (lambda key, values: max(values.values()), 12),
    ],
)
def test_who_is_right_where_branches_disagree_can_be_said(on_conflict: Any, price: Any) -> None:
    merged = MergeDicts(on_conflict=on_conflict).invoke(OUTPUTS)
    assert merged == {"seller": "Ann", "price": price, "terms": {"days": 30, "vat": True}, "buyer": "Bob"}


def test_branches_that_disagree_are_an_error_that_names_them_and_what_they_say() -> None:
    with pytest.raises(SynthesisError) as caught:
        MergeDicts().invoke(OUTPUTS)
    assert str(caught.value).splitlines() == [
        "MergeDicts: the branches disagree about 'price': 'first' says 10 (an int), 'second' says 12 (an int)",
        "help: on_conflict='first', 'last', 'list' or a function decides",
    ]
    with pytest.raises(SynthesisError, match=r"about 'a.b.c': 'item_1' says 1 \(an int\), 'item_3' says '1' \(a str\)"):
        MergeDicts().invoke([{"a": {"b": {"c": 1}}}, {"a": {"x": 1}}, {"a": {"b": {"c": "1"}}}])
    with pytest.raises(SynthesisError, match=r"about 'a': 'item_1' says \{'b': 1\} \(a dict\), 'item_2' says 'text'"):
        MergeDicts().invoke([{"a": {"b": 1}}, {"a": "text"}])


def test_an_error_shows_values_short_and_without_secrets() -> None:
    with pytest.raises(SynthesisError) as caught:
        MergeDicts().invoke([{"a": "sk-abcdefgh12345678"}, {"a": "x" * 1000}])
    assert "sk-abc" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_equal_values_and_none_are_no_conflict() -> None:
    outputs = [{"a": 1, "b": None, "c": [1]}, {"a": 1, "b": 2, "c": [1]}, {"b": None, "d": None, "e": 1.0}, {"e": 1}]
    assert MergeDicts().invoke(outputs) == {"a": 1, "b": 2, "c": [1], "d": None, "e": 1.0}


def test_a_truth_value_and_a_number_are_different() -> None:
    assert MergeDicts(on_conflict="list").invoke([{"a": True}, {"a": 1}]) == {"a": [True, 1]}


def test_a_list_of_values_holds_each_once_in_the_order_of_the_branches() -> None:
    outputs = [{"a": 2}, {"a": 1}, {"a": 2}, {"a": [3]}, {"b": 1}]
    assert MergeDicts(on_conflict="list").invoke(outputs) == {"a": [2, 1, [3]], "b": 1}


def test_dicts_inside_are_values_if_it_is_not_to_go_deep() -> None:
    outputs = [{"a": {"x": 1}}, {"a": {"y": 2}}]
    assert MergeDicts().invoke(outputs) == {"a": {"x": 1, "y": 2}}
    assert MergeDicts(deep=False, on_conflict="last").invoke(outputs) == {"a": {"y": 2}}
    with pytest.raises(SynthesisError, match="disagree about 'a'"):
        MergeDicts(deep=False).invoke(outputs)


class Party(BaseModel):
    model_config = ConfigDict(extra="allow")

    name: str | None = None
    address: Any = None


def test_pydantic_models_are_dicts_of_their_fields() -> None:
    outputs = {"a": Party(name="Ann"), "b": Party(address=Party(name="x"), phone=1), "c": {"address": {"city": "y"}}}
    assert MergeDicts().invoke(outputs) == {
        "name": "Ann",
        "address": {"name": "x", "address": None, "city": "y"},
        "phone": 1,
    }
    assert MergeDicts().invoke([{"p": Party(name="x")}, {"p": Party(name="x")}]) == {"p": Party(name="x")}


class Array:
    """Compares item by item, as numpy's arrays do."""

    def __eq__(self, other: object) -> Any:
        return Answers()

    __hash__ = None  # type: ignore[assignment]


class Answers:
    def __bool__(self) -> bool:
        raise ValueError("the truth value of an array is ambiguous")


def test_values_that_cannot_be_compared_are_different() -> None:
    one, other = Array(), Array()
    assert MergeDicts(on_conflict="first").invoke([{"a": one}, {"a": other}])["a"] is one
    assert MergeDicts().invoke([{"a": one}, {"a": one}])["a"] is one


def test_failures_are_left_out_at_any_depth() -> None:
    def down(_: Any) -> Any:
        raise TimeoutError("slow")

    inner = RunnableParallelPlus(x=down, y=lambda _: 1).with_policy(BranchPolicy(on_failure="keep"))
    fan_out = RunnableParallelPlus(a=inner, b=lambda _: {"x": 2}, c=down).with_policy(c=BranchPolicy(on_failure="keep"))
    assert (fan_out | MergeDicts()).invoke(0) == {"x": 2, "y": 1}


def test_nothing_that_was_given_is_changed() -> None:
    outputs = [{"a": {"x": 1}}, {"a": {"y": 2}}]
    MergeDicts().invoke(outputs)
    assert outputs == [{"a": {"x": 1}}, {"a": {"y": 2}}]


@pytest.mark.parametrize(("output", "kind"), [("{}", "a str"), ([{}], "a list"), (3, "an int")])
def test_a_branch_without_a_dict_is_named(output: Any, kind: str) -> None:
    with pytest.raises(SynthesisError, match=f"a pydantic model of each branch, and branch 'b' returned {kind}"):
        MergeDicts().invoke({"a": {}, "b": output, "c": lost("c")})


@pytest.mark.parametrize("on_conflict", ["newest", None, 3])
def test_an_unknown_rule_is_refused(on_conflict: Any) -> None:
    with pytest.raises(
        DeclarationError, match=r"MergeDicts.on_conflict must be one of 'error', 'first', 'last', 'list'"
    ):
        MergeDicts(on_conflict=on_conflict)
