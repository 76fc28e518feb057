"""Saving what was computed of a prompt while the model goes on: in a thread of its own, never in an answer's way."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.llms.turns import Turns

if TYPE_CHECKING:
    from chinese_alpaca_rag.llms.backend import Backend
    from chinese_alpaca_rag.llms.prefix_store import BlockKey, Claim, PrefixStore, SpaceFacts

#: So many bytes of states may wait in memory for the disk; what comes faster is taken from the context afterwards.
MOST_WAITING: Final = 512 << 20
# Names of blocks that are known to be in the store; forgetting them costs a look at the disk.
_MOST_REMEMBERED: Final = 100_000


@dataclass(frozen=True)
class Unsaved:
    """A block that is worth keeping: ``start`` to ``end`` of ``ids``, a whole prompt's; what it was made of.

    ``since`` is the store's generation when the prompt came: what is forgotten later is not kept after all.
    """

    ids: tuple[int, ...]
    start: int
    end: int
    key: BlockKey
    parent: BlockKey | None
    labels: tuple[str, ...]
    since: int


class Saver:
    """Writes blocks to a store, one after another.

    The interpreter waits for what is being written before it ends; what a killed process leaves behind is the
    store's to clear.
    """

    def __init__(self, store: PrefixStore, about: SpaceFacts, turns: Turns) -> None:
        self._store = store
        self._about = about
        self._turns = turns
        self._guard = threading.Lock()
        self._executor: ThreadPoolExecutor | None = None
        self._waiting = 0
        self._stored: set[bytes] = set()
        self._failed: set[bytes] = set()
        self._queued: set[bytes] = set()
        self._process = os.getpid()
        self._given_up = threading.Event()
        #: Why the last block that was to be kept was not; ``None`` where all is well.
        self.problem: Words | None = None

    def begin_prompt(self) -> None:
        """Another prompt: what could not be kept of the last one may be tried again."""
        if self._process != os.getpid():
            # A forked child has none of its parent's threads.
            self._process, self._guard, self._executor = os.getpid(), threading.Lock(), None
            self._waiting, self._queued, self._stored = 0, set(), set()
        self._failed.clear()
        self._given_up.clear()
        if len(self._stored) > _MOST_REMEMBERED:
            self._stored.clear()

    def is_stored(self, key: BlockKey) -> bool:
        """Whether this object knows that the block is in the store; it may have gone since."""
        return key.digest in self._stored

    def is_queued(self, key: BlockKey) -> bool:
        """Whether a copy of the block waits to be written."""
        return key.digest in self._queued

    def note_stored(self, key: BlockKey) -> None:
        """The block was seen in the store."""
        self._stored.add(key.digest)

    def save(self, block: Unsaved, backend: Backend, claim: Claim | None) -> bool:
        """Take a copy of the block now, inside the turn that computed it, and write it meanwhile.

        False, with the claim released, where the copies that wait already are too large: ``save_later`` is for those.
        """
        if self._is_hopeless(block):
            _release(claim)
            return True
        if self._waiting >= MOST_WAITING:
            _release(claim)
            return False
        try:
            state = memoryview(backend.snapshot(block.start, block.end)).cast("B")
        except MemoryError:
            # The answer matters more.
            self.problem = Words(zh="内存不足。", en="There was not enough memory.")
            self._failed.add(block.key.digest)
            _release(claim)
            return True
        except BaseException:
            _release(claim)
            raise
        job = _Job(self, block, len(state), claim)
        self._submit(lambda: self._write(block, state), job.done)
        return True

    def save_later(self, blocks: Sequence[Unsaved], opened: Callable[[], Backend | None]) -> None:
        """Save ``blocks`` of one prompt once nobody uses the model; ``opened`` gives the backend while it is open."""
        self._submit(lambda: self._save_from_context(blocks, opened), lambda: None)

    def finish(self) -> None:
        """Wait until everything is written that can be. An interruption gives up what is not begun."""
        done = threading.Event()
        with self._guard:
            if self._executor is None:
                return
        # One thread does one job after another: when this one is done, those before it are.
        self._submit(lambda: None, done.set)
        try:
            done.wait()
        except BaseException:
            self._given_up.set()
            raise

    def _submit(self, work: Callable[[], object], finally_: Callable[[], None]) -> None:
        """Have ``work`` done in the thread, and ``finally_`` whether it was done or given up."""
        with self._guard:
            if self._executor is None:
                self._executor = ThreadPoolExecutor(1, thread_name_prefix="prefixes")
            try:
                future = self._executor.submit(work)
            except RuntimeError:
                # At the interpreter's end nothing is taken any more.
                future = None
        if future is None:
            finally_()
        else:
            future.add_done_callback(lambda _: finally_())

    def _is_hopeless(self, block: Unsaved) -> bool:
        """Whether the block before it was not kept: then it would not be either."""
        if block.parent is None or block.parent.digest not in self._failed:
            return False
        self._failed.add(block.key.digest)
        return True

    def _write(self, block: Unsaved, state: bytes | bytearray | memoryview) -> bool:
        if self._given_up.is_set() or self._is_hopeless(block):
            return False
        ids = block.ids[block.start : block.end]
        kept = self._store.write(
            block.key,
            ids,
            state,
            parent=block.parent,
            about=self._about,
            labels=block.labels,
            since=block.since,
        )
        self.problem = None if kept else self._store.problem
        if kept:
            self._stored.add(block.key.digest)
        else:
            self._failed.add(block.key.digest)
            # What was there may have gone: with the next prompt it is looked at again.
            self._stored.clear()
        return kept

    def _save_from_context(self, blocks: Sequence[Unsaved], opened: Callable[[], Backend | None]) -> None:
        for block in blocks:
            if self._given_up.is_set():
                return
            if self._store.has(block.key):
                self._stored.add(block.key.digest)
                continue
            state = self._copied(block, opened)
            if state is None or not self._write(block, state):
                return

    def _copied(self, block: Unsaved, opened: Callable[[], Backend | None]) -> bytes | bytearray | memoryview | None:
        """The block's state, if the context still holds it."""
        me = object()
        try:
            with self._turns.step(me):
                backend = opened()
                if backend is None or backend.turn_to(block.ids[: block.end]) < block.end:
                    return None
                return backend.snapshot(block.start, block.end)
        finally:
            self._turns.leave(me)


class _Job:
    """A copy that waits to be written: it counts from here on, and once only not any more."""

    def __init__(self, saver: Saver, block: Unsaved, size: int, claim: Claim | None) -> None:
        self._saver = saver
        self._digest = block.key.digest
        self._size = size
        self._claim = claim
        saver._waiting += size
        saver._queued.add(self._digest)

    def done(self) -> None:
        """It was written, or given up."""
        size, self._size = self._size, 0
        self._saver._waiting -= size
        self._saver._queued.discard(self._digest)
        _release(self._claim)


def _release(claim: Claim | None) -> None:
    if claim is not None:
        claim.release()
