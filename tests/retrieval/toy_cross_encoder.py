"""A cross-encoder of BERT's shape with random weights, as a folder of files, and a reranker by shared characters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.retrieval.toy_embedder import CHARACTERS, SPECIAL, tokenizer


def write_cross_encoder(folder: Path, *, most: int = 48, labels: int = 1, seed: int = 0) -> Path:
    """Write the model to ``folder``; ``most`` tokens a pair."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(seed)
    pieces = [*SPECIAL, *dict.fromkeys(CHARACTERS)]
    config = BertConfig(
        vocab_size=len(pieces), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=most, num_labels=labels, initializer_range=0.3,
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer(pieces, most).save_pretrained(folder)
    return folder


class OverlapReranker:
    """Counts the different characters that a text shares with the question; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, list[str]]] = []

    def scores(self, query: str, texts: Sequence[str]) -> list[float]:
        self.asked.append((query, list(texts)))
        return [float(len(set(query) & set(text))) for text in texts]
