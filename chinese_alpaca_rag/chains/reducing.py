"""From many notes to a few that fit one prompt: merged in groups, round by round, until they do.

Every round leaves at most half as many notes, whatever the model writes, so this ends. A note that is
too long to be merged with any other is shortened at a sentence, and that is said.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence

from chinese_alpaca_rag.chains.calls import ModelCalls, Prompt
from chinese_alpaca_rag.chains.events import Progress
from chinese_alpaca_rag.chains.packing import group_notes, shorten
from chinese_alpaca_rag.language import Words

NotesPrompt = Callable[[Sequence[str]], Prompt]


class Counter:
    """How many calls have ended, of how many. The final call is one of them."""

    def __init__(self, calls: int) -> None:
        self.done = 0
        self.total = calls + 1

    def step(self) -> Progress:
        """One more has ended."""
        self.done += 1
        return Progress(self.done, self.total)

    def add(self, calls: int) -> None:
        """More are needed than was known."""
        self.total += calls


def read_parts(
    calls: ModelCalls, prompts: Sequence[Prompt], name: str, counter: Counter
) -> Generator[Progress, None, list[str]]:
    """The replies to ``prompts``, in their order."""
    replies = [""] * len(prompts)
    for index, reply in calls.read_all(prompts, name):
        replies[index] = reply
        yield counter.step()
    return replies


def condense(
    calls: ModelCalls, notes: Sequence[str], *, merging: NotesPrompt, final: NotesPrompt, counter: Counter
) -> Generator[Progress, None, list[str]]:
    """``notes``, merged until the ``final`` prompt with all of them fits the window."""
    limit = calls.measure.limit
    current = list(notes)
    shortened = 0
    while limit is not None and not calls.measure.fits(final(current)):
        if len(current) == 1:
            current = [shorten(current[0], lambda texts: calls.measure.count(final(texts)), limit)]
            shortened += 1
            break
        groups, cut = group_notes(current, lambda texts: calls.measure.count(merging(texts)), limit)
        shortened += cut
        together = [group for group in groups if len(group) > 1]
        counter.add(len(together))
        merged = yield from read_parts(calls, [merging(group) for group in together], "merge notes", counter)
        replies = iter(merged)
        current = [next(replies) if len(group) > 1 else group[0] for group in groups]
    if shortened:
        calls.remark(
            Words(
                zh=f"合并时有 {shortened} 份摘录过长，只保留了前面的部分。",
                en=f"{shortened} of the notes were too long to be merged and kept only their beginnings.",
            )
        )
    return current
