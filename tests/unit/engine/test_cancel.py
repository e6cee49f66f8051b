from __future__ import annotations

from langchain_parallel_plus._engine.cancel import CancelToken


def test_listeners_are_called_once_in_order() -> None:
    token, heard = CancelToken(), []
    token.subscribe(lambda: heard.append(1))
    forget = token.subscribe(lambda: heard.append(2))
    token.subscribe(lambda: heard.append(3))
    forget()
    assert not token.cancelled
    token.cancel()
    token.cancel()
    assert token.cancelled
    assert heard == [1, 3]


def test_one_listener_may_listen_twice() -> None:
    token, heard = CancelToken(), []
    listener = lambda: heard.append(1)  # noqa: E731  # one object on purpose
    token.subscribe(listener)
    token.subscribe(listener)()
    token.cancel()
    assert heard == [1]


def test_who_comes_late_is_told_at_once() -> None:
    token, heard = CancelToken(), []
    token.cancel()
    token.subscribe(lambda: heard.append(1))
    assert heard == [1]


def test_cancellation_goes_down_and_not_up() -> None:
    outer = CancelToken()
    inner, ended = CancelToken(outer), CancelToken(outer)
    ended.close()
    CancelToken(outer).cancel()
    assert not outer.cancelled
    outer.cancel()
    assert inner.cancelled
    assert not ended.cancelled
