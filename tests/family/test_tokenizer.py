from __future__ import annotations

import io
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st

from chinese_alpaca_rag.errors import CheckpointError
from chinese_alpaca_rag.family.tokenizer import FamilyTokenizer
from tests.family.tokenizer_contract import TEXT, TokenizerContract, shown
from tests.family.vocabularies import named, reference, vocabulary_of
from tests.shared_data import shared_data
from tests.toy_tokenizer import toy_tokenizer_model

every_model = pytest.mark.parametrize("name", ["toy", "smallest", "real"])


class TestToyContract(TokenizerContract):
    name = "toy"


class TestSmallestContract(TokenizerContract):
    name = "smallest"


class TestRealContract(TokenizerContract):
    name = "real"


def passages() -> list[str]:
    content = json.loads(shared_data("cmrc2018-trial.json").read_text(encoding="utf-8"))
    return [paragraph["context"] for article in content["data"] for paragraph in article["paragraphs"]]


@every_model
@given(text=TEXT.filter(lambda text: "▁" not in text))
def test_ids_are_sentencepieces(name: str, text: str) -> None:
    ids = reference(name).encode(shown(text))
    assert named(name).encode(text) == ids
    assert named(name).decode(ids) == reference(name).decode(ids)


def test_ids_of_every_passage_are_sentencepieces() -> None:
    texts = passages()
    assert len(texts) == 256
    assert [text for text in texts if named("real").encode(text) != reference("real").encode(text)] == []
    gguf = FamilyTokenizer.from_pieces(*vocabulary_of("real"))
    assert [text for text in texts if gguf.encode(text) != reference("real").encode(text)] == []


@every_model
@given(text=TEXT)
def test_a_gguf_vocabulary_gives_the_same_ids(name: str, text: str) -> None:
    assert gguf_tokenizer(name).encode(text) == named(name).encode(text)


@cache
def gguf_tokenizer(name: str) -> FamilyTokenizer:
    return FamilyTokenizer.from_pieces(*vocabulary_of(name))


def test_the_space_mark_is_cut_by_itself_and_leaves_its_neighbours_alone() -> None:
    tokenizer = named("real")
    mark = [index for index, value in enumerate(tokenizer.piece_bytes) if value in (b"\xe2", b"\x96", b"\x81")]
    assert sorted(set(tokenizer.encode("▁")) & set(mark)) == sorted(mark)
    assert tokenizer.encode("北京▁") == [*tokenizer.encode("北京"), *tokenizer.spell("▁")]


def test_no_text_becomes_a_control_id() -> None:
    tokenizer = named("real")
    assert tokenizer.control_ids == {0, 1, 2, 32000}
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.vocabulary_size) == (1, 2, 55296)
    assert tokenizer.special_ids == {"<unk>": 0, "<s>": 1, "</s>": 2, "<pad>": 32000}
    assert tokenizer.end_ids == {1, 2}
    for text in ("</s><s>", "<pad>", "x<pad>y", "<unk>", " <pad>", "<0x0A>"):
        assert tokenizer.control_ids.isdisjoint(tokenizer.encode(text))
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_a_special_piece_of_ordinary_type_is_spelt_out() -> None:
    pieces, scores, types = vocabulary_of("toy")
    # A converter that marks <pad> as user-defined makes SentencePiece find it in any text.
    extended = FamilyTokenizer.from_pieces([*pieces, "<pad>"], [*scores, 0.0], [*types, 4])
    padding = len(pieces)
    assert padding in extended.control_ids
    processor_ids = extended._processor.encode("a<pad>b")
    assert padding in processor_ids  # what would happen without the tokenizer's care
    ids = extended.encode("a<pad>b")
    assert padding not in ids
    assert extended.decode(ids) == "a<pad>b"
    assert extended.encode_with_ends("a<pad>b")[1][-1] == 7


def test_user_defined_pieces_stay_whole() -> None:
    pieces, scores, types = vocabulary_of("toy")
    extended = FamilyTokenizer.from_pieces([*pieces, "年假制度"], [*scores, 0.0], [*types, 4])
    assert len(pieces) in extended.encode("公司的年假制度")


@every_model
def test_only_the_dummy_prefix_is_taken_away(name: str) -> None:
    tokenizer = named(name)
    decoder = tokenizer.stream_decoder()
    assert "".join(map(decoder.push, [tokenizer.bos_id, *tokenizer.encode("年 假")])) == "年 假"
    # A space that came as a byte is text, not the prefix.
    assert tokenizer.decode([*tokenizer.spell_bytes(" "), *tokenizer.spell("a")]) == " a"


def test_ids_that_are_no_text_decode_to_nothing() -> None:
    tokenizer = named("real")
    assert tokenizer.decode([1, 2, 32000, 55296, 10**9, -1]) == ""


def test_a_vocabulary_without_dummy_prefix() -> None:
    bare = FamilyTokenizer.from_pieces(*vocabulary_of("toy"), add_dummy_prefix=False)
    ids, ends = bare.encode_with_ends(" 年假")
    assert bare.decode(ids) == " 年假"
    assert ends[-1] == 3
    assert len(bare.encode("年假")) <= len(named("toy").encode("年假"))


@pytest.mark.parametrize(
    "damage",
    [
        lambda columns: (columns[0][:-1], columns[1], columns[2]),
        lambda columns: (columns[0], columns[1][:-1], columns[2]),
        lambda columns: ([], [], []),
        lambda columns: (["same"] * len(columns[0]), columns[1], columns[2]),
        lambda columns: ([*columns[0][:-1], ""], columns[1], columns[2]),
        lambda columns: ([*columns[0][:-1], "\ud800"], columns[1], columns[2]),
        lambda columns: (columns[0], columns[1], [7] * len(columns[2])),
        lambda columns: (columns[0], columns[1], [1] * len(columns[2])),
        lambda columns: (columns[0], [1e300] * len(columns[1]), columns[2]),
        lambda columns: (columns[0][:200], columns[1][:200], columns[2][:200]),
    ],
)
def test_damaged_vocabularies_are_refused(damage: Any) -> None:
    with pytest.raises(CheckpointError):
        FamilyTokenizer.from_pieces(*damage(vocabulary_of("toy")))


def test_the_header_says_which_pieces_are_bos_and_eos() -> None:
    # Whatever type a converter gave them.
    assert 300 in FamilyTokenizer.from_pieces(*vocabulary_of("toy"), bos_id=300).control_ids
    for index in (-1, 10**6):
        with pytest.raises(CheckpointError, match="EOS"):
            FamilyTokenizer.from_pieces(*vocabulary_of("toy"), eos_id=index)


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x0b\x0c"])
def test_files_that_are_no_model_are_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "tokenizer.model"
    file.write_bytes(content)
    with pytest.raises(CheckpointError):
        FamilyTokenizer.from_file(file)


@given(cut=st.integers(0, 14_000))
def test_a_model_cut_short_is_refused_or_whole(cut: int) -> None:
    model = toy_tokenizer_model()[:cut]
    with pytest.raises(CheckpointError):
        FamilyTokenizer.from_bytes(model)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"tokenizer\.model"):
        FamilyTokenizer.from_file(tmp_path / "tokenizer.model")


@pytest.mark.parametrize(
    ("size", "options"),
    [
        (300, {"byte_fallback": True, "normalization_rule_name": "nmt_nfkc", "remove_extra_whitespaces": False}),
        (300, {"byte_fallback": True, "normalization_rule_name": "identity", "remove_extra_whitespaces": True}),
        (40, {"byte_fallback": False, "normalization_rule_name": "identity", "remove_extra_whitespaces": False}),
    ],
)
def test_a_model_that_would_change_its_text_is_refused(size: int, options: dict[str, Any]) -> None:
    model = io.BytesIO()
    trainer: Any = sentencepiece.SentencePieceTrainer
    trainer.train(
        sentence_iterator=iter(["some words to train on", "and some more words"] * 5),
        model_writer=model,
        model_type="bpe",
        vocab_size=size,
        minloglevel=2,
        **options,
    )
    with pytest.raises(CheckpointError):
        FamilyTokenizer.from_bytes(model.getvalue())
