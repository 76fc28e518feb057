"""How a prompt is read: from the longest beginning that is held or kept already, and so that the next one can be.

A prompt is evaluated in blocks that end where its segments end (system text, each source, each turn) and after
``BLOCK`` ids at the latest. Keys and values of a block depend on the ids up to its end and on nothing behind it, so
that a block in the store serves every prompt that begins as this one does. Blocks are evaluated one by one whether
they are kept or not: with a block from the store the arithmetic that follows is, operation by operation, that of a
prompt that was read from its first id.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from chinese_alpaca_rag.family.template import Segment
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.llms.backend import Backend
from chinese_alpaca_rag.llms.cancellation import Cancellation
from chinese_alpaca_rag.llms.prefix_saving import Saver, Unsaved

if TYPE_CHECKING:
    from chinese_alpaca_rag.llms.prefix_store import BlockKey, Claim, PrefixStore

#: The most ids of a block, in tokens, and the least that is worth one.
BLOCK: Final = 512
LEAST_BLOCK: Final = 16
# Blocks that are read ahead while others are handed to the context.
_AHEAD: Final = 2
# How often, in seconds, is looked whether another process has finished a block.
_LOOK_AGAIN: Final = 0.02


@dataclass(frozen=True)
class Block:
    """The ids ``start`` to ``end`` (exclusive) of a prompt, evaluated in one go; ``labels`` of what they are from."""

    start: int
    end: int
    labels: tuple[str, ...] = ()


def blocks_of(length: int, segments: Sequence[Segment]) -> Iterator[Block]:
    """The blocks of a prompt of ``length`` ids.

    Where a block ends depends on nothing behind it: prompts that begin alike have their first blocks in common.
    What is left behind the last block belongs to none.
    """
    start, labels = 0, list[str]()
    for segment in (*segments, Segment(length)):
        if segment.label and segment.label not in labels and segment.end > start:
            labels.append(segment.label)
        while segment.end - start >= BLOCK:
            yield Block(start, start + BLOCK, tuple(labels))
            start += BLOCK
            labels = [segment.label] if segment.label and segment.end > start else []
        if segment.end - start >= LEAST_BLOCK and segment.end < length:
            yield Block(start, segment.end, tuple(labels))
            start, labels = segment.end, []


class Prefixes:
    """The reading of prompts on one context, and what it keeps of them in a store, if there is one."""

    def __init__(
        self,
        store: PrefixStore | None = None,
        *,
        space: Callable[[Backend], str] = lambda _: "",
        saver: Saver | None = None,
        opened: Callable[[], Backend | None] = lambda: None,
    ) -> None:
        """``space`` names the weights and the way they are opened; ``opened`` gives the backend while it is open."""
        self._store = store
        self._name_space = space
        self._space = ""
        self._saver = saver
        self._opened = opened

    def prefill(
        self,
        backend: Backend,
        ids: Sequence[int],
        segments: Sequence[Segment],
        cancelled: Cancellation,
        *,
        end: int | None = None,
    ) -> int | None:
        """Make ``backend`` hold the first ``end`` of ``ids`` (all of them by default); how many it did not evaluate.

        ``None`` when it was called off. With ``end`` left out the logits after the last id stand ready.
        """
        end = len(ids) if end is None else end
        before = backend.evaluated
        position = backend.keep(ids if end == len(ids) else ids[: end + 1])
        # The last id is always evaluated where its logits are wanted.
        last = end - 1 if end == len(ids) else end
        blocks = [block for block in blocks_of(len(ids), segments) if block.end <= last]
        reading = _Reading(backend, ids, cancelled, position)
        if self._store is None or self._saver is None or self._store.limit == 0:
            done = all(reading.evaluate(block.end) for block in blocks)
        else:
            # Naming reads the weights once, on this machine ever.
            self._space = self._space or self._name_space(backend)
            done = _StoredReading(self._store, self._saver, self._space, reading, blocks).read(self._opened)
        if not (done and reading.evaluate(end)):
            return None
        return end - (backend.evaluated - before)

    def finish_saving(self) -> None:
        """Wait until what is to be kept is on the disk."""
        if self._saver is not None:
            self._saver.finish()

    @property
    def problem(self) -> Words | None:
        """Why the store did not keep what it was last given; ``None`` while it does."""
        return self._saver.problem if self._saver is not None else None


class _Reading:
    """One prompt's way into the backend; ``position`` ids are held."""

    def __init__(self, backend: Backend, ids: Sequence[int], cancelled: Cancellation, position: int) -> None:
        self.backend = backend
        self.ids = ids
        self.cancelled = cancelled
        self.position = position

    def evaluate(self, end: int) -> bool:
        """Evaluate up to ``end``; false when it was called off."""
        while self.position < end:
            if self.cancelled.is_set():
                return False
            step = min(self.position + self.backend.batch, end)
            self.backend.evaluate(self.ids[self.position : step])
            self.position = step
        return True


class _StoredReading:
    """As ``_Reading``, block by block: from the store what it has, into it what it has not."""

    def __init__(
        self, store: PrefixStore, saver: Saver, space: str, reading: _Reading, blocks: Sequence[Block]
    ) -> None:
        from chinese_alpaca_rag.llms.prefix_store import block_keys

        self._store = store
        self._saver = saver
        self._reading = reading
        self._ids = tuple(reading.ids)
        self._blocks = blocks
        keys = block_keys(space, reading.ids, [block.end for block in blocks])
        self._keys = dict(zip(blocks, keys, strict=True))
        self._parents: Mapping[Block, BlockKey | None] = dict(zip(blocks, [None, *keys], strict=False))
        self._since = store.generation
        saver.begin_prompt()
        self._later: list[Unsaved] = []

    def read(self, opened: Callable[[], Backend | None]) -> bool:
        """Hold every block; false when it was called off."""
        reading = self._reading
        # What stays in memory may never have been kept, or not any more.
        self._later = [
            self._unsaved(block)
            for block in self._blocks
            if block.end <= reading.position and not self._saver.is_stored(self._keys[block])
        ]
        waiting = deque(block for block in self._blocks if block.end > reading.position)
        try:
            while waiting:
                present = self._present(waiting)
                if present:
                    self._restore(present)
                while waiting and waiting[0].end <= reading.position:
                    waiting.popleft()
                if waiting and not self._compute(waiting[0]):
                    return False
        finally:
            if self._later:
                self._saver.save_later(self._later, opened)
        return True

    def _present(self, waiting: Sequence[Block]) -> list[Block]:
        """The next blocks that the store has, as far as it has them without a gap and they are worth it."""
        found = []
        for block in waiting:
            if block.end - self._reading.position < LEAST_BLOCK or not self._store.has(self._keys[block]):
                break
            found.append(block)
        return found

    def _restore(self, blocks: Sequence[Block]) -> None:
        """Hand the states of ``blocks`` to the backend, as far as they turn out to be right."""
        reading = self._reading
        with ThreadPoolExecutor(_AHEAD) if len(blocks) > 1 else nullcontext() as pool:
            ahead: deque[tuple[Block, Future[memoryview | None] | None]] = deque()
            rest = iter(blocks)
            for _ in range(_AHEAD):
                self._read_ahead(pool, rest, ahead)
            while ahead:
                block, future = ahead.popleft()
                state = future.result() if future is not None else self._state_of(block)
                self._read_ahead(pool, rest, ahead)
                if state is None or reading.cancelled.is_set():
                    return
                if block.start < reading.position:
                    # The context held a part of it: the whole comes from the store.
                    reading.backend.drop(block.start)
                    reading.position = block.start
                if not reading.backend.restore(reading.ids[block.start : block.end], state):
                    self._store.remove(self._keys[block])
                    return
                reading.position = block.end
                self._saver.note_stored(self._keys[block])

    def _read_ahead(
        self,
        pool: ThreadPoolExecutor | None,
        rest: Iterator[Block],
        ahead: deque[tuple[Block, Future[memoryview | None] | None]],
    ) -> None:
        block = next(rest, None)
        if block is not None:
            ahead.append((block, pool.submit(self._state_of, block) if pool is not None else None))

    def _state_of(self, block: Block) -> memoryview | None:
        return self._store.read(self._keys[block], self._reading.ids[block.start : block.end])

    def _compute(self, block: Block) -> bool:
        """Evaluate ``block`` and have it saved, unless another process has just done so; false when called off."""
        if block.end - self._reading.position < LEAST_BLOCK:
            return self._reading.evaluate(block.end)
        key = self._keys[block]
        claim = self._claimed(key)
        if claim is None:
            return not self._reading.cancelled.is_set()
        if self._store.has(key):
            claim.release()
            return True
        try:
            done = self._reading.evaluate(block.end)
        except BaseException:
            claim.release()
            raise
        if not done:
            claim.release()
        elif self._later:
            # A block is kept only behind one that is.
            claim.release()
            self._later.append(self._unsaved(block))
        elif not self._saver.save(self._unsaved(block), self._reading.backend, claim):
            self._later.append(self._unsaved(block))
        return done

    def _claimed(self, key: BlockKey) -> Claim | None:
        """The claim on computing a block; ``None`` once another process has computed it, or when called off."""
        while True:
            claim = self._store.claim(key)
            if claim is not None:
                return claim
            if self._reading.cancelled.is_set() or self._store.has(key):
                return None
            self._reading.cancelled.wait(_LOOK_AGAIN)

    def _unsaved(self, block: Block) -> Unsaved:
        return Unsaved(
            self._ids, block.start, block.end, self._keys[block], self._parents[block], block.labels, self._since
        )
