"""What is found, put in order for an answer: nothing twice, several files, and what stands around each passage."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import cached_property
from typing import Any

from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from pydantic import ConfigDict, Field, model_validator

from chinese_alpaca_rag.library.documents import passage_document
from chinese_alpaca_rag.library.records import Passage
from chinese_alpaca_rag.library.scope import Scope
from chinese_alpaca_rag.library.store import Library
from chinese_alpaca_rag.retrieval.inner import found_by
from chinese_alpaca_rag.script import comparable

#: How long a text is: characters, or a model's tokens.
Length = Callable[[str], int]

_GRAM = 5  # characters
_REACH = 64  # passages on each side among which those under the same heading are looked for
_NOT_COMPARED = re.compile(r"[\W_]+")
_NUMBER = re.compile(r"[-+−]?\d+(?:[.,:/-]\d+)*%?")
# Characters that change what a text says wherever they change: digits, Chinese numerals, negations.
_TELLING = re.compile(r"[\d〇零一二两三四五六七八九十百千万亿不未无非没勿莫否]")
_PLACE = ("source", "page", "start", "end")


def without_near_duplicates(documents: Sequence[Document], alike: float = 0.9) -> list[Document]:
    """``documents``, best first, without those of which nearly all stands in one better-ranked document.

    Two texts are compared without width, case, script, white space and punctuation. A document goes where ``alike`` of
    its different runs of five characters or more stand in a better one: the containment of Broder ("On the resemblance
    and containment of documents", 1997), which, unlike the resemblance, never lets a long text go for a short one. A
    text of fewer than five characters goes only for the same one. Texts that differ in a number, a date, a Chinese
    numeral or a negation are no duplicates, however alike.

    What stays tells in ``near_duplicates`` the places (source, page, start, end) of what went for it.
    """
    kept: list[_Compared] = []
    known: set[str] = set()  # the runs of all that is kept
    for document in documents:
        compared = _Compared(document)
        most_missing = int((1 - alike) * len(compared.runs) + 1e-9)
        holder = None
        if len(compared.runs - known) <= most_missing:
            holder = next((better for better in kept if better.holds(compared, most_missing)), None)
        if holder is None:
            kept.append(compared)
            known |= compared.runs
        else:
            holder.duplicates += [_place(document), *document.metadata.get("near_duplicates", ())]
    return [each.noted() for each in kept]


def spread_over_files(documents: Sequence[Document], k: int, most_per_file: int) -> list[Document]:
    """``documents`` with at most ``most_per_file`` of one file (``source``) among the first ``k``.

    As long as others are there: where they are not, the best of what was moved back fills the ``k``. Otherwise the
    order stays, and nothing is dropped. Documents without a source are of no file.
    """
    count: Counter[Hashable] = Counter()
    first: list[int] = []
    for number, document in enumerate(documents):
        if len(first) == max(k, 0):
            break
        source = document.metadata.get("source")
        if source is None or count[source] < most_per_file:
            first.append(number)
            count[source] += 1
    taken = set(first)
    return [documents[number] for number in (*first, *(n for n in range(len(documents)) if n not in taken))]


def expanded(
    documents: Sequence[Document],
    library: Library,
    budget: int,
    length: Length = len,
    neighbours: int = 1,
    *,
    scope: Scope | None = None,
) -> list[Document]:
    """``documents``, best first, and behind them what stands around them in ``library``, within ``budget`` in all.

    ``length`` measures each text: in characters, or tokens with a model's counter. First come the documents themselves,
    each that still fits. Then, best first, what stands around each: ``neighbours`` passages before and behind it in its
    file, and what else there is under the same heading there, the nearest first; on each side only up to the first that
    does not fit, so that no gap comes between. No passage comes twice. What is added tells in ``expands`` the
    ``passage_id`` of what it was added for. Nothing is added for a document that is not, word for word, a passage of
    the library, nor from outside of ``scope``.
    """
    filling = _Filling(budget, length)
    found = [document for document in documents if filling.takes(document.page_content, _passage_name(document))]
    numbers = [each for document in found if isinstance(each := document.metadata.get("passage_id"), int)]
    passages = {passage.id: passage for passage in library.passages_by_id(list(dict.fromkeys(numbers)))}
    within = None if scope is None or scope.is_everything else library.passage_ids(scope)
    added: list[Document] = []
    for document in found:
        number = document.metadata.get("passage_id")
        passage = passages.get(number) if isinstance(number, int) else None
        if passage is None or passage.text != document.page_content or filling.is_full:
            continue
        for other in _around(passage, library, filling, neighbours, within):
            around = passage_document(other)
            around.metadata["expands"] = passage.id
            added.append(around)
    return [*found, *added]


class ArrangingRetriever(BaseRetriever):
    """What any retriever finds, without near duplicates, spread over files, and with what stands around it.

    ``fetch`` documents are taken of ``retriever`` where it can be asked for a number, and the best ``k`` of what is
    left are given. ``near_duplicates``: the share of a text that has to stand in a better one for it to go, None keeps
    all. ``most_per_file`` of the ``k`` come from one file while there are others, None for any number. With a
    ``budget``, in what ``length`` counts (characters), those of the ``k`` that fit come first, and ``neighbours``
    passages on both sides and those under the same heading fill what is left of it: ``expanded`` says how. It needs
    ``library``; ``scope`` is the part of it that may be added.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    retriever: BaseRetriever
    library: Library | None = Field(default=None, exclude=True, repr=False)
    k: int = Field(default=12, ge=1)
    fetch: int = Field(default=50, ge=1)
    near_duplicates: float | None = Field(default=0.9, gt=0, le=1)
    most_per_file: int | None = Field(default=None, ge=1)
    budget: int | None = Field(default=None, ge=1)
    neighbours: int = Field(default=1, ge=0)
    length: Length = Field(default=len, exclude=True)
    scope: Scope | None = None

    @model_validator(mode="after")
    def _library_for_budget(self) -> ArrangingRetriever:
        if self.budget is not None and self.library is None:
            raise ValueError("a budget is filled from a library: give library as well")
        return self

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, k: int | None = None
    ) -> list[Document]:
        wanted = self.k if k is None else k
        documents = found_by(self.retriever, query, max(self.fetch, wanted), run_manager)
        if self.near_duplicates is not None:
            documents = without_near_duplicates(documents, self.near_duplicates)
        if self.most_per_file is not None:
            documents = spread_over_files(documents, wanted, self.most_per_file)
        documents = documents[:wanted]
        if self.budget is None or self.library is None:
            return documents
        return expanded(documents, self.library, self.budget, self.length, self.neighbours, scope=self.scope)


class _Compared:
    """A document and what is compared of it."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.duplicates: list[dict[str, Any]] = []
        self._comparable = comparable(document.page_content)
        text = _NOT_COMPARED.sub("", self._comparable)
        self.runs = frozenset(text[start : start + _GRAM] for start in range(len(text) - _GRAM + 1))
        if not self.runs:
            self.runs = frozenset([text or document.page_content])

    @cached_property
    def numbers(self) -> list[str]:
        return _NUMBER.findall(self._comparable)

    @cached_property
    def telling(self) -> list[str]:
        return _TELLING.findall(self._comparable)

    def holds(self, other: _Compared, most_missing: int) -> bool:
        """Whether at most so many of the other's runs are not here, and all that tells it apart is."""
        missing = other.runs - self.runs
        if len(missing) > most_missing:
            return False
        # Where all of the other stands here, this one may say more; where something differs, a 不 must not.
        if missing and (self.telling != other.telling or any(map(_TELLING.search, missing))):
            return False
        here = iter(self.numbers)
        return all(number in here for number in other.numbers)

    def noted(self) -> Document:
        """The document, with the places of its duplicates where there are any."""
        if not self.duplicates:
            return self.document
        before = self.document.metadata.get("near_duplicates", ())
        metadata = {**self.document.metadata, "near_duplicates": [*before, *self.duplicates]}
        return Document(id=self.document.id, page_content=self.document.page_content, metadata=metadata)


class _Filling:
    """Counts what was taken against a budget, and takes nothing twice."""

    def __init__(self, budget: int, length: Length) -> None:
        self._left = budget
        self._length = length
        self._taken: set[Hashable] = set()

    @property
    def is_full(self) -> bool:
        return self._left <= 0

    def has(self, name: Hashable) -> bool:
        return name in self._taken

    def takes(self, text: str, name: Hashable) -> bool:
        """Take a text if it is new and fits; whether it was taken."""
        if name in self._taken or self._left <= 0 or (its := self._length(text)) > self._left:
            return False
        self._left -= its
        self._taken.add(name)
        return True


def _around(
    passage: Passage, library: Library, filling: _Filling, neighbours: int, within: set[int] | None
) -> Iterable[Passage]:
    """What ``filling`` takes of a passage's neighbours, then of those under its heading, the nearest first."""
    reach = max(neighbours, _REACH if passage.heading else 0)
    near = library.passages_between(passage.file_id, passage.position - reach, passage.position + reach)
    at = {other.position: other for other in near if within is None or other.id in within}
    for same_heading in (False, True):
        if same_heading and not passage.heading:
            return
        open_sides = {-1, 1}
        for distance in range(1, (reach if same_heading else neighbours) + 1):
            for side in (-1, 1):
                other = at.get(passage.position + side * distance) if side in open_sides else None
                if other is None or (same_heading and other.heading != passage.heading):
                    open_sides.discard(side)
                elif filling.has(other.id):
                    continue
                elif filling.takes(other.text, other.id):
                    yield other
                else:
                    open_sides.discard(side)


def _passage_name(document: Document) -> Hashable:
    """The passage's number in the library, or what else tells a document from others."""
    number = document.metadata.get("passage_id")
    return number if isinstance(number, int) else (document.id, document.page_content)


def _place(document: Document) -> dict[str, Any]:
    return {name: document.metadata[name] for name in _PLACE if name in document.metadata}
