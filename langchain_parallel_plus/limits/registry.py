"""Which account belongs to which key of this process: that of a name is kept, also while nobody holds a limiter of it.

A function that makes its limiter anew for every request holds none in between, and its quota is the same all the same:
what is taken, a pause, what was learned, and the declaration. An unnamed limiter's account goes with the limiter.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

from langchain_parallel_plus.errors import DeclarationError
from langchain_parallel_plus.limits.account import Account

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_parallel_plus.limits.declaration import Quota

__all__ = ("forget_accounts", "join_account")

_KEPT: Final = 512
"""Names that are kept whatever their state: enough for all keys of a process, unless a name is made for each user."""

_ACCOUNTS: WeakValueDictionary[str, Account] = WeakValueDictionary()
_named: dict[str, Account] = {}
_sweep_at = _KEPT
_lock = threading.Lock()


def join_account(key: str, quota: Quota, name: str | None, clock: Callable[[], float] | None) -> Account:
    """Return the account of `key`, opened if there is none in this process.

    Raises:
        DeclarationError: It is open under other limits.
    """
    with _lock:
        account = _ACCOUNTS.get(key)
        if account is None:
            account = _ACCOUNTS[key] = Account(quota, name, clock)
        if name is not None and key not in _named:
            _keep(key, account)
    if account.quota != quota:
        msg = f"limiter {name!r} was declared before with other limits: {account.quota.difference(quota)}"
        raise DeclarationError(
            msg,
            help="limiters of one name share one quota: declare it once, use set_rate(), take another name, or call "
            "limits.reset() first to begin anew with it, as in a notebook's cell that runs again",
        )
    return account


def forget_accounts(key: str | None = None) -> None:
    """Open the account of `key`, or of all keys, afresh when it is joined next."""
    with _lock:
        for one in list(_ACCOUNTS) if key is None else [key]:
            _ACCOUNTS.pop(one, None)
            _named.pop(one, None)


def _keep(key: str, account: Account) -> None:
    """Keep the account of a name; of very many, let those go that a new one could not be told from."""
    global _sweep_at
    if len(_named) >= _sweep_at:
        for one in [one for one, kept in _named.items() if kept.is_at_rest()]:
            del _named[one]
        _sweep_at = max(_KEPT, 2 * len(_named))
    _named[key] = account


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork)
