"""Telling whether two sets of vectors come from the same embedding model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_core.embeddings import Embeddings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Embedded when vectors are kept and when they are used again: the same model gives nearly the same vector.
PROBE = "年假有几天？ How many days of annual leave are there?"
LEAST_ALIKE = 0.999


def probe_of(embedding: Embeddings) -> NDArray[np.float32]:
    """The model's unit vector of ``PROBE``, shape (dimension,)."""
    import numpy as np

    probe: NDArray[np.float32] = unit(np.asarray([embedding.embed_query(PROBE)], dtype=np.float32))[0]
    return probe


def alike(one: NDArray[np.float32], other: NDArray[np.float32]) -> bool:
    """Whether two probes are of one model."""
    return one.shape == other.shape and float(one @ other) >= LEAST_ALIKE


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each row of length 1; a row of zeros stays."""
    import numpy as np

    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.ascontiguousarray(vectors / np.where(lengths > 0, lengths, 1.0), dtype=np.float32)
