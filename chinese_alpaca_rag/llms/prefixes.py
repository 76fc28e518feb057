"""How a prompt is read: from the longest beginning that is held or kept already, and so that the next one can be.

A prompt is evaluated in blocks that end where its segments end (system text, each source, each turn) and after
``BLOCK`` ids at the latest. Keys and values of a block depend on the ids up to its end and on nothing behind it, so
that a block in the store serves every prompt that begins as this one does. Blocks are evaluated one by one whether
they are kept or not: with a block from the store the arithmetic that follows is, operation by operation, that of a
prompt that was read from its first id.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from chinese_alpaca_rag.errors import AlpacaRagError
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
    ends: dict[int, list[str]] = {}
    for segment in segments:
        if segment.end < length:
            ends.setdefault(segment.end, []).append(segment.label)
    start, labels = 0, dict[str, None]()
    for end, own in [*ends.items(), (length, [])]:
        of_stretch = dict.fromkeys(label for label in own if label and end > start)
        labels |= of_stretch
        while end - start >= BLOCK:
            yield Block(start, start + BLOCK, tuple(labels))
            start += BLOCK
            labels = dict(of_stretch) if end > start else {}
        if end - start >= LEAST_BLOCK and end < length:
            yield Block(start, end, tuple(labels))
            start, labels = end, {}


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
        self._named: tuple[weakref.ref[Backend], str] | None = None
        self._problem: Words | None = None
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
        patient: bool = True,
    ) -> int | None:
        """Make ``backend`` hold the first ``end`` of ``ids`` (all of them by default); how many it did not evaluate.

        ``None`` when it was called off. With ``end`` left out the logits after the last id stand ready. Unless
        ``patient``, a block that another process computes just then is not waited for.
        """
        end = len(ids) if end is None else end
        before = backend.evaluated
        position = backend.keep(ids if end == len(ids) else ids[: end + 1])
        # The last id is always evaluated where its logits are wanted.
        last = end - 1 if end == len(ids) else end
        blocks = [block for block in blocks_of(len(ids), segments) if block.end <= last]
        reading = _Reading(backend, ids, cancelled, position)
        space = self._space_of(backend)
        if space is None or self._store is None or self._saver is None:
            done = all(reading.evaluate(block.end) for block in blocks)
        else:
            stored = _StoredReading(self._store, self._saver, space, reading, blocks, patient=patient)
            done = stored.read(self._opened)
        if not (done and reading.evaluate(end)):
            return None
        return end - (backend.evaluated - before)

    def _space_of(self, backend: Backend) -> str | None:
        """The name of what ``backend`` computes; ``None`` where nothing is kept of it."""
        if self._store is None or self._store.limit == 0:
            return None
        if self._named is None or self._named[0]() is not backend:
            try:
                # This reads the weights, once on this machine ever.
                self._named = weakref.ref(backend), self._name_space(backend)
            except (OSError, AlpacaRagError) as problem:
                self._problem = problem.message if isinstance(problem, AlpacaRagError) else Words(*[str(problem)] * 2)
                return None
            self._problem = None
        return self._named[1]

    def finish_saving(self) -> None:
        """Wait until what is to be kept is on the disk."""
        if self._saver is not None:
            self._saver.finish()

    @property
    def problem(self) -> Words | None:
        """Why the store did not keep what it was last given; ``None`` while it does."""
        return self._problem or (self._saver.problem if self._saver is not None else None)


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
        self,
        store: PrefixStore,
        saver: Saver,
        space: str,
        reading: _Reading,
        blocks: Sequence[Block],
        *,
        patient: bool,
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
        self._patient = patient
        # Those that stand in the store and could not be used.
        self._useless: set[Block] = set()

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
                if reading.cancelled.is_set():
                    return False
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
            if block.end - self._reading.position < LEAST_BLOCK or not self._is_present(block):
                break
            found.append(block)
        return found

    def _is_present(self, block: Block) -> bool:
        return block not in self._useless and self._store.has(self._keys[block])

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
                if state is None:
                    self._useless.add(block)
                if state is None or reading.cancelled.is_set():
                    return
                if block.start < reading.position:
                    # The context held a part of it: the whole comes from the store.
                    reading.backend.drop(block.start)
                    reading.position = block.start
                if not reading.backend.restore(reading.ids[block.start : block.end], state):
                    self._useless.add(block)
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
        if block is None:
            return
        future = None
        if pool is not None:
            # At the interpreter's end no thread begins anything: it is then read when it is needed.
            with suppress(RuntimeError):
                future = pool.submit(self._state_of, block)
        ahead.append((block, future))

    def _state_of(self, block: Block) -> memoryview | None:
        return self._store.read(self._keys[block], self._reading.ids[block.start : block.end])

    def _compute(self, block: Block) -> bool:
        """Evaluate ``block`` and have it saved, unless another process has just done so; false when called off."""
        if block.end - self._reading.position < LEAST_BLOCK:
            return self._reading.evaluate(block.end)
        key = self._keys[block]
        while (claim := self._store.claim(key)) is None:
            if self._reading.cancelled.is_set():
                return False
            if not self._patient or self._saver.is_queued(key):
                # What this process is about to write needs no second copy, and must not be waited for in a turn.
                return self._reading.evaluate(block.end)
            if self._is_present(block):
                return True
            self._reading.cancelled.wait(_LOOK_AGAIN)
        try:
            if self._is_present(block):
                claim.release()
                return True
            done = self._reading.evaluate(block.end)
            if done:
                self._save(block, claim)
            else:
                claim.release()
        except BaseException:
            claim.release()
            raise
        return done

    def _save(self, block: Block, claim: Claim) -> None:
        unsaved = self._unsaved(block)
        if self._later:
            # A block is kept only behind one that is.
            claim.release()
            self._later.append(unsaved)
        elif not self._saver.save(unsaved, self._reading.backend, claim):
            self._later.append(unsaved)

    def _unsaved(self, block: Block) -> Unsaved:
        return Unsaved(
            self._ids, block.start, block.end, self._keys[block], self._parents[block], block.labels, self._since
        )
