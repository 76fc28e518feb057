"""The tokenizers that the tests of this room share, and their vocabularies as GGUF files hold them."""

from __future__ import annotations

from functools import cache
from typing import Any

import sentencepiece

from chinese_alpaca_rag.family.byte_pair import BytePairTokenizer
from chinese_alpaca_rag.family.tokenizer import FamilyTokenizer
from chinese_alpaca_rag.family.tokens import Tokenizer
from tests.shared_data import shared_data
from tests.toy_byte_pair import BytePairVocabulary, toy_byte_pair
from tests.toy_tokenizer import smallest_tokenizer_model, toy_tokenizer_model

Vocabulary = tuple[list[str], list[float], list[int]]


@cache
def named_model(name: str) -> bytes:
    """The toy, the smallest or the real model; a test that asks for the real one is skipped where it is not."""
    if name == "real":
        return shared_data("tokenizer/tokenizer.model").read_bytes()
    return {"toy": toy_tokenizer_model, "smallest": smallest_tokenizer_model}[name]()


@cache
def named(name: str) -> FamilyTokenizer:
    return FamilyTokenizer.from_bytes(named_model(name))


def byte_pair_tokenizer(vocabulary: BytePairVocabulary) -> BytePairTokenizer:
    """As from a GGUF file."""
    merges = [" ".join(merge) for merge in vocabulary.merges]
    return BytePairTokenizer.from_pieces(vocabulary.pieces, merges, vocabulary.types)


@cache
def any_named(name: str) -> Tokenizer:
    """As ``named``; "byte-pair" is the toy of the third generation."""
    return byte_pair_tokenizer(toy_byte_pair()) if name == "byte-pair" else named(name)


@cache
def reference(name: str) -> Any:
    """SentencePiece itself."""
    return sentencepiece.SentencePieceProcessor(model_proto=named_model(name))


@cache
def vocabulary_of(name: str) -> Vocabulary:
    """Pieces, scores and types."""
    model = reference(name)
    kinds = {2: model.is_unknown, 3: model.is_control, 5: model.is_unused, 6: model.is_byte}
    indices = range(model.vocab_size())
    return (
        [model.id_to_piece(index) for index in indices],
        [model.get_score(index) for index in indices],
        [next((kind for kind, holds in kinds.items() if holds(index)), 1) for index in indices],
    )
