"""What is computed from the files of libraries and kept elsewhere: it has to go with them.

A model's cached prefixes are such; so are vectors. Whoever keeps them notes with each the label of every document in
it (``chinese_alpaca_rag.labels``); a library that loses a file has what bears its label forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from collections.abc import Set as AbstractSet
from typing import Protocol

from chinese_alpaca_rag.errors import LibraryError
from chinese_alpaca_rag.labels import read_label
from chinese_alpaca_rag.language import Words


class Derived(Protocol):
    """Something computed from the files of libraries that has to go with them."""

    def forget_documents(self, wanted_gone: Callable[[str], bool], /) -> int:
        """Remove all that was computed from a document whose label ``wanted_gone`` says yes to.

        Gives the number of things removed. Other processes may add to it meanwhile.
        """
        ...

    @property
    def problem(self) -> Words | None:
        """Why something stayed the last time, None where nothing did."""
        ...


class Forgetting:
    """What one library asks of everything derived from it; what fails is noted in ``problems``, never raised.

    ``library`` is the library's absolute folder. A change of the library must not fail with what is derived from it:
    that is only a copy, and its rest is tried again when the library is next opened to be written.
    """

    def __init__(self, library: str, derived: Sequence[Derived]) -> None:
        self.derived = tuple(derived)
        self.problems: list[LibraryError] = []
        self._library = library

    def forget_files(self, paths: Collection[str]) -> int:
        """Whatever was in the files ``paths`` has gone, in every version of them, and read without a library too."""
        if not paths:
            return 0

        def gone(label: str) -> bool:
            read = read_label(label)
            return label in paths if read is None else read[0] == self._library and read[1] in paths

        return self._forget(gone)

    def forget_all_but(self, held: AbstractSet[tuple[str, str]]) -> int:
        """The library holds only the contents ``held``: pairs of path and sha256."""

        def gone(label: str) -> bool:
            read = read_label(label)
            return read is not None and read[0] == self._library and read[1:] not in held

        return self._forget(gone)

    def _forget(self, gone: Callable[[str], bool]) -> int:
        count = 0
        for each in self.derived:
            try:
                count += each.forget_documents(gone)
                reason = each.problem
            except Exception as error:
                said = f"{type(error).__name__}: {error}"
                reason = Words(zh=said, en=said)
            if reason is not None:
                self._note(reason)
        return count

    def _note(self, reason: Words) -> None:
        problem = _not_forgotten(reason)
        if problem.message not in (known.message for known in self.problems):
            self.problems.append(problem)


def _not_forgotten(reason: Words) -> LibraryError:
    return LibraryError(
        Words(
            zh=f"已不在知识库里的文件，模型由它们算出的缓存没能清除。{reason.zh}",
            en=f"What models had computed from files that are not in the library any more could not be removed. "
            f"{reason.en}",
        ),
        hint=Words(
            zh="知识库本身没有问题。alpaca-rag cache clear 会删除全部缓存；下次运行 ingest 也会再试。",
            en="The library itself is in order. alpaca-rag cache clear removes all of it; the next ingest tries again.",
        ),
    )
