"""How a prompt is read: from the longest beginning that is held already, in steps that the next prompt can begin at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from chinese_alpaca_rag.family.template import Segment
from chinese_alpaca_rag.llms.backend import Backend
from chinese_alpaca_rag.llms.cancellation import Cancellation

#: The most ids of a block, in tokens, and the least that is worth one.
BLOCK: Final = 512
LEAST_BLOCK: Final = 16


@dataclass(frozen=True)
class Block:
    """The ids ``start`` to ``end`` (exclusive) of a prompt, evaluated in one go; ``labels`` of what they are from."""

    start: int
    end: int
    labels: tuple[str, ...] = ()


def blocks_of(length: int, segments: Sequence[Segment]) -> Iterator[Block]:
    """The blocks of a prompt of ``length`` ids: they end where segments end, and after ``BLOCK`` ids at the latest.

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
    """The reading of prompts on one context."""

    def prefill(
        self,
        backend: Backend,
        ids: Sequence[int],
        segments: Sequence[Segment],
        cancelled: Cancellation,
        *,
        end: int | None = None,
    ) -> int | None:
        """Make ``backend`` hold the first ``end`` of ``ids`` (all of them by default); how many it need not evaluate.

        ``None`` when it was called off. With ``end`` left out the logits after the last id stand ready.
        """
        end = len(ids) if end is None else end
        evaluated = backend.evaluated
        position = backend.keep(ids if end == len(ids) else ids[: end + 1])
        for stop in [*(block.end for block in blocks_of(len(ids), segments)), end]:
            while position < min(stop, end):
                if cancelled.is_set():
                    return None
                step = min(position + backend.batch, stop, end)
                backend.evaluate(ids[position:step])
                position = step
        return end - (backend.evaluated - evaluated)
