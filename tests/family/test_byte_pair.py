from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chinese_alpaca_rag.errors import CheckpointError, MissingExtraError
from chinese_alpaca_rag.family.byte_pair import BytePairTokenizer
from tests.family.tokenizer_contract import ANY, TEXT, TokenizerContract, shown
from tests.family.vocabularies import any_named, byte_pair_tokenizer
from tests.toy_byte_pair import (
    SPECIAL,
    UNMERGED,
    BytePairVocabulary,
    in_bytes,
    tokenizer_json_bytes,
    toy_byte_pair,
)

TOY = toy_byte_pair()


class TestBytePairContract(TokenizerContract):
    name = "byte-pair"


@cache
def reference() -> Any:
    """transformers over the same ``tokenizer.json``, told to leave special pieces in a text alone."""
    import tokenizers
    import transformers

    whole = tokenizers.Tokenizer.from_str(tokenizer_json_bytes(TOY).decode())
    return transformers.PreTrainedTokenizerFast(tokenizer_object=whole, split_special_tokens=True)


@settings(deadline=None)  # the first call imports transformers
@given(text=TEXT)
def test_ids_are_those_of_transformers(text: str) -> None:
    assert any_named("byte-pair").encode(text) == reference().encode(shown(text), add_special_tokens=False)


MARKS = st.lists(st.sampled_from([*SPECIAL, "<|", "eot_id", "|>", "\n\n", " ", "user"]) | st.text(ANY, max_size=2))


@given(text=MARKS.map("".join))
def test_no_text_becomes_a_special_piece(text: str) -> None:
    tokenizer = any_named("byte-pair")
    assert tokenizer.control_ids.isdisjoint(tokenizer.encode(text))
    assert tokenizer.decode(tokenizer.encode(text)) == shown(text)


def test_the_ids_that_mean_something() -> None:
    tokenizer = any_named("byte-pair")
    assert tokenizer.kind == "byte-pair"
    assert (tokenizer.vocabulary_size, tokenizer.bos_id, tokenizer.eos_id) == (773, 757, 758)
    assert tokenizer.control_ids == set(range(757, 773))
    assert dict(tokenizer.special_ids) == {piece: 757 + number for number, piece in enumerate(SPECIAL)}
    assert tokenizer.end_ids == {757, 758, tokenizer.special_ids["<|eot_id|>"]}


def test_a_message_that_goes_on_elsewhere_ends_an_answer_too() -> None:
    special = tuple("<|eom_id|>" if piece == "<|reserved_special_token_4|>" else piece for piece in SPECIAL)
    tokenizer = byte_pair_tokenizer(toy_byte_pair(special))
    assert tokenizer.end_ids == {757, 758, 757 + special.index("<|eom_id|>"), 757 + special.index("<|eot_id|>")}


def test_a_word_that_is_a_piece_needs_no_merges() -> None:
    tokenizer = any_named("byte-pair")
    assert tokenizer.encode(UNMERGED) == [TOY.pieces.index(in_bytes(UNMERGED))]
    assert len(tokenizer.encode(f"这{UNMERGED}")) > 2


def test_a_vocabulary_where_a_special_piece_is_also_a_word() -> None:
    # Whatever a file calls special: no text becomes it.
    plain = (*SPECIAL[:-1], "assistant")
    pieces = tuple(piece for piece in TOY.pieces[:757] if "assistant" not in piece)
    merges = tuple(merge for merge in TOY.merges if "assistant" not in "".join(merge))
    tokenizer = byte_pair_tokenizer(BytePairVocabulary((*pieces, *plain), merges, plain))
    ids = tokenizer.encode("assistant")
    assert tokenizer.special_ids["assistant"] not in ids
    assert tokenizer.decode(ids) == "assistant"


def test_millions_of_spaces_do_not_end_the_process() -> None:
    # The regular expression alone gives up, and takes the process with it.
    tokenizer = any_named("byte-pair")
    text = " " * 10_100_000
    assert tokenizer.count(text) > 0


def test_a_long_text_is_cut_where_llama_3_cuts_it() -> None:
    tokenizer = any_named("byte-pair")
    text = "年假" * 250_000
    assert tokenizer.encode(text) == tokenizer.encode(text[:400_000]) + tokenizer.encode(text[400_000:])


def written(tmp_path: Path, content: object) -> Path:
    file = tmp_path / "tokenizer.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


@pytest.mark.parametrize("pairs", [False, True])
@given(text=TEXT)
def test_a_folders_file_gives_the_same_ids_as_a_gguf_file(
    tmp_path_factory: pytest.TempPathFactory, pairs: bool, text: str
) -> None:
    from_file = folder_tokenizer(tmp_path_factory.getbasetemp(), pairs)
    assert from_file.encode(text) == any_named("byte-pair").encode(text)
    assert from_file.special_ids == any_named("byte-pair").special_ids


@cache
def folder_tokenizer(folder: Path, pairs: bool) -> BytePairTokenizer:
    """From ``tokenizer.json`` with merges in the old spelling or, as newer programs write it, in pairs."""
    content = TOY.tokenizer_json()
    if pairs:
        content["model"]["merges"] = [list(merge) for merge in TOY.merges]
        del content["model"]["ignore_merges"]
    return BytePairTokenizer.from_file(written(folder, content))


def changed(path: str, value: object) -> Callable[[dict[str, Any]], None]:
    """Sets what stands at ``path``, keys and positions with slashes between."""

    def change(content: Any) -> None:
        *outer, last = [int(part) if part.isdigit() else part for part in path.split("/")]
        for part in outer:
            content = content[part]
        content[last] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        changed("normalizer", {"type": "NFC"}),
        changed("pre_tokenizer", None),
        changed("pre_tokenizer", {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}),
        changed("pre_tokenizer/pretokenizers/0/pattern", {"Regex": "\\s+"}),
        changed("pre_tokenizer/pretokenizers/0/pattern", {"String": " "}),
        changed("pre_tokenizer/pretokenizers/0/behavior", "Removed"),
        changed("pre_tokenizer/pretokenizers/0/invert", True),
        changed("pre_tokenizer/pretokenizers/0", "Split"),
        changed("pre_tokenizer/pretokenizers/1/add_prefix_space", True),
        changed("pre_tokenizer/pretokenizers/1/use_regex", True),
        changed("pre_tokenizer/pretokenizers", []),
        changed("model/type", "Unigram"),
        changed("model/type", None),
        changed("model/dropout", 0.1),
        changed("model/unk_token", "<unk>"),
        changed("model/continuing_subword_prefix", "##"),
        changed("model/end_of_word_suffix", "</w>"),
        changed("model/byte_fallback", True),
        changed("model/ignore_merges", False),
        changed("model/something_new", 1),
        changed("added_tokens", None),
        changed("added_tokens", SPECIAL),
        changed("added_tokens/6/content", "<|another|>"),
        changed("added_tokens/6/content", "a"),
        changed("added_tokens/6/id", 0),
        changed("added_tokens/6/id", 9999),
        changed("added_tokens/6", {"content": "no id"}),
        changed("model", None),
        changed("model/vocab", ["a"]),
        changed("model/vocab", None),
        changed("model/vocab/!", 1000),
        changed("model/vocab/!", "first"),
        changed("model/vocab/知", 757),
        changed("model/vocab/\ud800", 757),
        changed("model/merges", None),
        changed("model/merges", []),
        changed("model/merges", ["a"]),
        changed("model/merges", [["a", "b", "c"]]),
        changed("model/merges", [["a", 1]]),
        changed("model/merges", ["qq zz"]),
        changed("model/merges", ["<|eot_id|> a"]),
    ],
)
def test_files_that_cut_text_otherwise_are_refused(tmp_path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = copy.deepcopy(TOY.tokenizer_json())
    BytePairTokenizer.from_file(written(tmp_path, content))
    change(content)
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        BytePairTokenizer.from_file(written(tmp_path, content))


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "[" * 100_000, "\x00", '{"model": {"type": "BPE"}}'])
def test_files_that_are_no_tokenizer_are_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(CheckpointError):
        BytePairTokenizer.from_file(written(tmp_path, content))
    with pytest.raises(CheckpointError, match="missing"):
        BytePairTokenizer.from_file(tmp_path / "missing" / "tokenizer.json")


@pytest.mark.parametrize(
    "changes",
    [
        {"pre_tokenizer": "qwen2"},
        {"pre_tokenizer": "default"},
        {"bos_id": 1},
        {"eos_id": 1},
        {"eos_id": 760},
        {"types": [1] * 773},
        {"types": [3] * 773},
        {"types": [1] * 10},
        {"types": [6] * 773},
        {"merges": ["a"]},
        {"merges": ["a b c"]},
        {"merges": ["zz qq"]},
        {"tokens": [*TOY.pieces[:756], "", *SPECIAL]},
        {"tokens": [*TOY.pieces[:756], "年", *SPECIAL]},
        {"tokens": [*TOY.pieces[:756], "a", *SPECIAL]},
        {"tokens": [*TOY.pieces[:757], *SPECIAL[:-1], SPECIAL[0]]},
        {"tokens": ["\u2603", *TOY.pieces[1:]]},
        {"tokens": [], "types": []},
    ],
)
def test_damaged_vocabularies_are_refused(changes: dict[str, Any]) -> None:
    whole: dict[str, Any] = {
        "tokens": TOY.pieces,
        "merges": [" ".join(merge) for merge in TOY.merges],
        "types": TOY.types,
        "bos_id": 757,
        "eos_id": 766,
    }
    assert BytePairTokenizer.from_pieces(**whole).eos_id == 758
    with pytest.raises(CheckpointError):
        BytePairTokenizer.from_pieces(**(whole | changes))


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(MissingExtraError, match=r"chinese-alpaca-rag\[endpoint\]"):
        byte_pair_tokenizer(TOY)
