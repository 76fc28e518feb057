"""Several rankings of documents as one."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from langchain_core.documents import Document

# How fast a rank loses weight; the value of Cormack, Clarke and Büttcher.
RANK_CONSTANT = 60


@dataclass(frozen=True)
class Fused:
    """A document, its score, and its rank (from 1) in each ranking, None where it was not in it."""

    document: Document
    score: float
    ranks: tuple[int | None, ...]

    def with_metadata(self, **added: object) -> Document:
        """A document of its own with the ``score`` and what else is ``added``."""
        metadata = {**self.document.metadata, "score": self.score, **added}
        return Document(id=self.document.id, page_content=self.document.page_content, metadata=metadata)


def fused_by_rank(
    rankings: Sequence[Sequence[Document]], weights: Sequence[float], *, constant: float = RANK_CONSTANT
) -> list[Fused]:
    """Reciprocal rank fusion (Cormack, Clarke and Büttcher, SIGIR 2009), best first: weight / (constant + rank).

    One weight a ranking. The larger the constant, the more it counts that several rankings have a document, and the
    less that one of them has it in front. Of equal scores the document comes first that an earlier ranking has, or has
    before the other.
    """
    ranks: dict[Hashable, list[int | None]] = {}
    documents: dict[Hashable, Document] = {}
    for side, ranking in enumerate(rankings):
        for rank, document in enumerate(ranking, start=1):
            name = same_document(document)
            documents.setdefault(name, document)
            its = ranks.setdefault(name, [None] * len(rankings))
            its[side] = its[side] or rank
    scores = {
        name: sum(weight / (constant + rank) for weight, rank in zip(weights, its, strict=True) if rank)
        for name, its in ranks.items()
    }
    last = len(ranks) + 1
    best = sorted(documents, key=lambda name: (-scores[name], [rank or last for rank in ranks[name]]))
    return [Fused(documents[name], scores[name], tuple(ranks[name])) for name in best]


def same_document(document: Document) -> Hashable:
    """What two finds of one document have in common: its id, or its text and source where it has none."""
    return document.id or (document.page_content, str(document.metadata.get("source")))
