"""Embeddings for tests: vectors of the characters of a text, so that alike texts have alike vectors."""

from __future__ import annotations

from langchain_core.embeddings import Embeddings


class CharacterEmbeddings(Embeddings):
    """Counts what it embeds."""

    def __init__(self, dimension: int = 64) -> None:
        self.dimension = dimension
        self.embedded: list[str] = []

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.embedded += texts
        return [self._vector(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return self._vector(text)

    def _vector(self, text: str) -> list[float]:
        vector = [0.0] * self.dimension
        for character in text:
            vector[ord(character) % self.dimension] += 1.0
        return vector
