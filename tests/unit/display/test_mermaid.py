"""Branches may be called anything: Mermaid reads their names as text.

What is asserted of the syntax was found with Mermaid 11.17.2 (2026), which reads the diagrams of these names, and none
of those that have a name as it is.
"""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.runnables import RunnableLambda, RunnableParallel

from langchain_parallel_plus import BranchPolicy, RetryPolicy, RunnableParallelPlus
from langchain_parallel_plus.display.mermaid import branch_label, node_label

HOSTILE = [
    'a "b" [c]|d\n(e)', "end", "End of day", "x: y", "a:b:c", "#1", "a#91;b", "50% & more", "a,b", "`code`", "<b>",
    "click", "default", "style: x", "a@b", "{x}", "-", '"', "",
]  # fmt: skip
PLAIN = ["summary", "key_terms", "two words", "mit-Umlaut ä", "日本"]
TITLE = re.compile(r'\tsubgraph (\w+(?:[ -]\w+)*|"[^"\[\](){}|<>`:\n]*")')


def _characters(text: str) -> str:
    """Return what Mermaid shows for the entity codes in a text."""
    return re.sub(r"#(\d+);", lambda found: chr(int(found[1])), text)


@pytest.mark.parametrize("key", HOSTILE)
def test_a_name_with_syntax_in_it_is_drawn_as_text(key: str) -> None:
    step = RunnableLambda(len, name='step {1} | "2"')
    drawn = RunnableParallelPlus({key: step, "nested": RunnableParallelPlus({key: step | str})}).get_graph()
    lines = drawn.draw_mermaid().split("\n")
    titles = [found[1] for line in lines if (found := TITLE.fullmatch(line))]
    assert len(titles) == sum(line.startswith("\tsubgraph") for line in lines) >= 2
    shown = {_characters(title.strip('"')) for title in titles}
    assert {" ".join(key.split()), f"nested/{' '.join(key.split())}"} <= shown
    for line in lines:
        if (node := re.fullmatch(r"\t[\w\\-]+(?:\(\[(.*)\]\)|\((.*)\))(?::::\w+)?", line)) is not None:
            assert not re.search(r'[\[\](){}"|]', node[1] or node[2]), line
        assert not line.startswith("\tend\\")  # a keyword, also where it begins the name of a node


@pytest.mark.parametrize("key", PLAIN)
def test_a_plain_name_stays_as_it_is(key: str) -> None:
    graph = RunnableParallelPlus({key: len}).get_graph()
    assert f"{key}: len" in {node.name for node in graph.nodes.values()}
    upstream = RunnableParallel({key: len}).get_graph()
    ours, theirs = ({node.name for node in one.nodes.values()} for one in (graph, upstream))
    assert ours - {f"{key}: len"} <= theirs


@given(st.text(max_size=20))
def test_what_is_escaped_reads_as_before_and_is_not_escaped_again(name: str) -> None:
    flat = " ".join("".join(char if char.isprintable() else " " for char in name).split())
    label = branch_label(name, "len")
    assert _characters(label.removesuffix(": len").strip('"')) == flat
    assert node_label(label) == label
    assert node_label(node_label(name)) == node_label(name)
    assert _characters(branch_label("outer", label).removesuffix(": len").strip('"')) == f"outer/{flat}"


def test_what_is_said_of_a_branch_is_not_said_of_what_is_in_it() -> None:
    keep, retry = BranchPolicy(on_failure="keep"), BranchPolicy(retry=RetryPolicy())
    inner = RunnableParallelPlus(x=len).with_policy(keep)
    middle = RunnableParallelPlus(m=inner).with_policy(keep)
    wide = RunnableParallelPlus(x=len, y=str.upper).with_policy(keep)
    chain = RunnableLambda(str) | RunnableLambda(len)
    outer = RunnableParallelPlus(a=inner, b=wide, c=chain, d=len, e=middle).with_policy(retry)
    said = {node.name.strip(): dict(node.metadata or {}) for node in outer.get_graph().nodes.values()}
    kept, retried = (RunnableParallelPlus(x=len).with_policy(one) for one in (keep, retry))
    [own], [other] = ([str(branch.policy) for branch in one._declared()] for one in (kept, retried))
    assert said['"a/x": len'] == {"policy": own, "policy of the whole branch": other}
    assert said["b: Parallel<x,y>Input"] == {"policy of the whole branch": other}
    assert said["c: str"] == {"policy of the whole branch": other}
    assert said["d: len"] == {"policy": other}
    assert said['"e/m/x": len'] == {
        "policy": own,
        "policy of the whole branch": own,
        "policy of the whole branch around": other,
    }
