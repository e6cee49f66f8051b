"""Whoever reads a merged stream: it works on each chunk under its own permit, and waits for the next without."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

from langchain_parallel_plus._engine.loans import Loans
from langchain_parallel_plus._engine.scope import current_scope

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from langchain_parallel_plus._engine.cancel import CancelToken
    from langchain_parallel_plus._engine.capacity import Permit
    from langchain_parallel_plus._engine.scope import Scope

__all__ = ("Consumer", "Lending")


_NOTHING = nullcontext()


class Consumer:
    """The reader of one merged stream, which may be another thread or task for every chunk.

    Args:
        outer: The branch in which the stream was opened.
    """

    __slots__ = ("_loans",)

    def __init__(self, outer: Scope | None) -> None:
        self._loans = Loans(outer.permit) if outer is not None and outer.permit is not None else None

    def away(self) -> AbstractContextManager[None]:
        """Give the reader's permit back for as long as it waits for a chunk; see `resume`."""
        scope = current_scope.get()
        if self._loans is None or scope is None or scope.permit is None:
            return _NOTHING
        return scope.permit.away(self._loans)

    def close(self) -> None:
        """Lend to nobody any more: the stream has ended."""
        if self._loans is not None:
            self._loans.close()

    def resume(self) -> None:
        """Wait in this thread for the reader's permit."""
        scope = current_scope.get()
        if self._loans is not None and scope is not None and scope.permit is not None:
            scope.permit.ensure(scope.token)

    async def aresume(self) -> None:
        """Wait in this task for the reader's permit."""
        scope = current_scope.get()
        if self._loans is not None and scope is not None and scope.permit is not None:
            await scope.permit.aensure()

    def lending(self, scope: Scope) -> Lending | None:
        """Return how a branch lends its permit to the reader, if both need one."""
        return None if scope.permit is None or self._loans is None else Lending(scope.permit, scope.token, self._loans)


class Lending:
    """A branch's permit, lent to the reader while that works on the branch's last chunk."""

    __slots__ = ("_loans", "_permit", "_token")

    def __init__(self, permit: Permit, token: CancelToken, loans: Loans) -> None:
        self._permit = permit
        self._token = token
        self._loans = loans

    def lend(self) -> None:
        """Do nothing under the permit from now on."""
        self._loans.offer(self._permit)

    def regain(self) -> None:
        """Go on under the permit; wait for it in this thread if it has been taken."""
        self._loans.withdraw(self._permit)
        self._permit.ensure(self._token, first=True)

    async def aregain(self) -> None:
        """Go on under the permit; wait for it in this task if it has been taken."""
        self._loans.withdraw(self._permit)
        await self._permit.aensure(first=True)
