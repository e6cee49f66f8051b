"""Slots of paused streams, on loan to whoever works on their last chunks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_parallel_plus._engine.slots import LOCK, Request, covers, free, tell

if TYPE_CHECKING:
    from langchain_parallel_plus._engine.capacity import Permit

__all__ = ("Loans",)


class Loans:
    """Slots of streams that stand still until their consumer comes back, for the work of that consumer.

    A stream that has delivered a chunk keeps its slot, so that no other stream is opened in its place. Its consumer
    needs one to work on the chunk, and would wait for ever where the streams that wait for it hold them all.

    Args:
        reader: The consumer's permit.
    """

    __slots__ = ("_idle", "_reader", "expected")

    def __init__(self, reader: Permit) -> None:
        self._idle: list[Permit] = []
        self._reader: Permit | None = reader
        self.expected = True
        """Whether the reader waits for this stream's next chunk."""
        with LOCK:
            reader.reads.append(self)

    def close(self) -> None:
        """Lend to nobody: the stream has ended."""
        with LOCK:
            if self._reader is not None:
                self._reader.reads.remove(self)
            self._reader = None
            admitted = self.clear()
        tell(admitted)

    def offer(self, lender: Permit) -> None:
        """Have a stream stand still, and lend its slot, until `withdraw`."""
        with LOCK:
            lender.parts -= 1
            if not lender.held:
                return
            lender.held -= 1
            reader, admitted = self._reader, list[Request]()
            request = reader.pending if reader is not None else None
            if reader is None or (reader.idle and not self.expected):
                admitted = free(lender.chain)
            elif request is not None and covers(lender, reader):
                request.grant()
                admitted = [request, *free(lender.chain, keep=reader.chain)]
            else:
                self._idle.append(lender)
        tell(admitted)

    def withdraw(self, lender: Permit) -> None:
        """Let a stream go on; its slot may have been taken, and must then be asked for again."""
        with LOCK:
            lender.parts += 1
            if lender in self._idle:
                self._idle.remove(lender)
                lender.held += 1

    def take(self, borrower: Permit) -> Permit | None:
        """Return a permit whose slot can stand in for that of `borrower`, if there is one; the lock is held."""
        lender = next((one for one in self._idle if covers(one, borrower)), None)
        if lender is not None:
            self._idle.remove(lender)
        return lender

    def clear(self) -> list[Request]:
        """Give up what is lent and not taken; return whom that lets in; the lock is held."""
        idle, self._idle = self._idle, []
        return [one for lender in idle for one in free(lender.chain)]
