"""A small vocabulary of the third generation's kind: byte-level BPE cut as Llama-3's, special pieces at the end.

The pieces are learnt here, by the textbook's rule, from the toy tokenizer's text: the same every time,
whatever version of ``tokenizers`` is installed.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

from tests.toy_tokenizer import _LINES

# As published with Meta-Llama-3-8B-Instruct.
WORDS = (
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"
    "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
)
CHAT_TEMPLATE = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}"
    "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'"
    "+ message['content'] | trim + '<|eot_id|>' %}"
    "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
SPECIAL = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    *(f"<|reserved_special_token_{number}|>" for number in range(4)),
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|reserved_special_token_4|>",
    "<|eot_id|>",
    *(f"<|reserved_special_token_{number}|>" for number in range(5, 11)),
)
# A word that is a piece though no merges lead to it, as Llama-3's vocabulary holds some.
UNMERGED = "知识库"
MERGES = 500

Merge = tuple[str, str]


@dataclass(frozen=True)
class BytePairVocabulary:
    """Pieces in order of their ids (the special ones last) and merges, both in GPT-2's alphabet for bytes."""

    pieces: tuple[str, ...]
    merges: tuple[Merge, ...]
    special: tuple[str, ...] = SPECIAL

    @property
    def types(self) -> list[int]:
        """GGUF's type of each piece: 1 is ordinary, 3 control."""
        return [3 if piece in self.special else 1 for piece in self.pieces]

    def tokenizer_json(self) -> dict[str, Any]:
        """The content of ``tokenizer.json``, as published with Meta-Llama-3-8B."""
        ordinary = len(self.pieces) - len(self.special)
        flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        byte_level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
        return {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [
                {"id": ordinary + number, "content": piece, **flags} for number, piece in enumerate(self.special)
            ],
            "normalizer": None,
            "pre_tokenizer": {
                "type": "Sequence",
                "pretokenizers": [
                    {"type": "Split", "pattern": {"Regex": WORDS}, "behavior": "Isolated", "invert": False},
                    byte_level | {"add_prefix_space": False, "use_regex": False},
                ],
            },
            "post_processor": byte_level | {"trim_offsets": False},
            "decoder": byte_level,
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": None,
                "continuing_subword_prefix": None,
                "end_of_word_suffix": None,
                "fuse_unk": False,
                "byte_fallback": False,
                "ignore_merges": True,
                "vocab": {piece: index for index, piece in enumerate(self.pieces[:ordinary])},
                "merges": [" ".join(merge) for merge in self.merges],
            },
        }

    def tokenizer_config(self) -> dict[str, Any]:
        """The content of ``tokenizer_config.json``."""
        return {
            "bos_token": "<|begin_of_text|>",
            "eos_token": "<|end_of_text|>",
            "chat_template": CHAT_TEMPLATE,
            "clean_up_tokenization_spaces": True,
            "model_max_length": 8192,
            "tokenizer_class": "PreTrainedTokenizerFast",
        }


def gpt2_alphabet() -> list[str]:
    """The characters that stand for bytes, in GPT-2's own order: those that can be seen first."""
    seen = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [chr(byte) for byte in seen] + [chr(256 + number) for number in range(256 - len(seen))]


def in_bytes(text: str) -> str:
    """``text`` in that alphabet, as the package ``tokenizers`` writes it."""
    from tokenizers.pre_tokenizers import ByteLevel

    return "".join(part for part, _ in ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text))


def words_of(text: str) -> list[str]:
    """The words that Llama-3's rule cuts ``text`` into, in that alphabet."""
    from tokenizers import Regex
    from tokenizers.pre_tokenizers import Split

    return [in_bytes(word) for word, _ in Split(Regex(WORDS), "isolated").pre_tokenize_str(text)]


def learn_merges(words: Iterable[str], count: int) -> list[Merge]:
    """The most frequent neighbours, joined one pair at a time; of equals the first in the alphabet."""
    counts = Counter(tuple(word) for word in words)
    merges: list[Merge] = []
    while len(merges) < count:
        pairs: Counter[Merge] = Counter()
        for parts, times in counts.items():
            for pair in pairwise(parts):
                pairs[pair] += times
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        joined: Counter[tuple[str, ...]] = Counter()
        for parts, times in counts.items():
            joined[_join(parts, best)] += times
        counts = joined
    return merges


def _join(parts: tuple[str, ...], merge: Merge) -> tuple[str, ...]:
    result: list[str] = []
    for part in parts:
        if result and (result[-1], part) == merge:
            result[-1] += part
        else:
            result.append(part)
    return tuple(result)


@cache
def toy_byte_pair(special: tuple[str, ...] = SPECIAL) -> BytePairVocabulary:
    """The toy third generation's vocabulary: 773 pieces, of which 16 are special."""
    text = _LINES.replace("\n", "\n\n") + "\n\n".join(("system", "user", "assistant")) * 9
    merges = tuple(learn_merges(words_of(text), MERGES))
    learnt = dict.fromkeys(left + right for left, right in merges)
    pieces = [*gpt2_alphabet(), *learnt, in_bytes(UNMERGED), *special]
    return BytePairVocabulary(tuple(pieces), merges, special)


def tokenizer_json_bytes(vocabulary: BytePairVocabulary) -> bytes:
    """``tokenizer.json`` as a file holds it."""
    return json.dumps(vocabulary.tokenizer_json(), ensure_ascii=False).encode()
