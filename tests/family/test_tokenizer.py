from __future__ import annotations

import io
import json
import time
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st

from chinese_alpaca_rag.errors import CheckpointError
from chinese_alpaca_rag.family.tokenizer import FamilyTokenizer
from tests.family.vocabularies import named, reference, vocabulary_of
from tests.shared_data import shared_data
from tests.toy_tokenizer import toy_tokenizer_model

# Text of every kind, with more of what could go wrong than chance would give.
FRAGMENTS = [
    "▁",
    "▁▁",
    " ",
    "  ",
    "\x00",
    "\n",
    "\t",
    "😀",
    "👨‍👩‍👧",
    "</s>",
    "<s>",
    "<unk>",
    "<pad>",
    "<0x41>",
    "⁇",
    "�",
]
FRAGMENTS += ["\ue000", "\ue001", "年假", "有", "the", "[INST]", "e\u0301", "\u200b", "ﬁ", "Ａ", "　", "𠮷", "\u202e"]
TEXT = st.one_of(
    st.text(), st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=3)), max_size=12).map("".join)
)

every_model = pytest.mark.parametrize("name", ["toy", "smallest", "real"])


def passages() -> list[str]:
    content = json.loads(shared_data("cmrc2018-trial.json").read_text(encoding="utf-8"))
    return [paragraph["context"] for article in content["data"] for paragraph in article["paragraphs"]]


@every_model
@given(text=TEXT)
def test_text_comes_back(name: str, text: str) -> None:
    tokenizer = named(name)
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.control_ids.isdisjoint(ids)
    assert tokenizer.count(text) == len(ids)


@every_model
@given(text=TEXT.filter(lambda text: "▁" not in text))
def test_ids_are_sentencepieces(name: str, text: str) -> None:
    assert named(name).encode(text) == reference(name).encode(text)
    assert named(name).decode(reference(name).encode(text)) == reference(name).decode(reference(name).encode(text))


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


@every_model
@given(text=TEXT)
def test_ends_mark_every_character(name: str, text: str) -> None:
    ids, ends = named(name).encode_with_ends(text)
    assert ids == named(name).encode(text)
    assert ends == sorted(ends)
    assert (ends[-1] if ends else 0) == len(text)
    # Cut where a piece ends and the next begins a character: the pieces on both sides are the two halves.
    for index, end in enumerate(ends):
        if index + 1 < len(ends) and ends[index + 1] > end:
            assert named(name).decode([*ids[: index + 1]]) == text[:end]


@every_model
def test_lone_surrogates_become_replacement_characters(name: str) -> None:
    assert named(name).decode(named(name).encode("a\ud800b\udfff")) == "a\ufffdb\ufffd"


def test_the_space_mark_is_cut_by_itself_and_leaves_its_neighbours_alone() -> None:
    tokenizer = named("real")
    mark = [index for index, value in enumerate(tokenizer.piece_bytes) if value in (b"\xe2", b"\x96", b"\x81")]
    assert sorted(set(tokenizer.encode("▁")) & set(mark)) == sorted(mark)
    assert tokenizer.encode("北京▁") == [*tokenizer.encode("北京"), *tokenizer.spell("▁")]


def test_no_text_becomes_a_control_id() -> None:
    tokenizer = named("real")
    assert tokenizer.control_ids == {0, 1, 2, 32000}
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.vocabulary_size) == (1, 2, 55296)
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
@given(ids=st.lists(st.integers(-3, 1100), max_size=40))
def test_streaming_joins_to_the_whole_and_never_fails(name: str, ids: list[int]) -> None:
    tokenizer = named(name)
    decoder = tokenizer.stream_decoder()
    parts = [*map(decoder.push, ids), decoder.finish()]
    assert "".join(parts) == tokenizer.decode(ids)


@every_model
@given(text=TEXT)
def test_streaming_gives_whole_characters(name: str, text: str) -> None:
    tokenizer = named(name)
    decoder = tokenizer.stream_decoder()
    shown = ""
    for index in tokenizer.encode(text):
        shown += decoder.push(index)
        assert text.startswith(shown)
    assert decoder.finish() == ""
    assert shown == text


def test_broken_bytes_become_replacement_characters() -> None:
    tokenizer = named("toy")
    first, second, third = tokenizer.spell_bytes("好")
    (letter,) = tokenizer.spell("a")
    decoder = tokenizer.stream_decoder()
    assert [decoder.push(index) for index in (first, second, letter)] == ["", "", "�a"]
    assert [decoder.push(index) for index in (first, second, third)] == ["", "", "好"]
    assert decoder.push(first) == ""
    assert decoder.finish() == "�"


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


@pytest.mark.parametrize("name", ["toy", "real"])
def test_a_long_text_is_encoded_in_no_time(name: str) -> None:
    text = "本公司员工每年享有年假。▁🙂 The report. " * 20_000
    start = time.perf_counter()
    ids, ends = named(name).encode_with_ends(text)
    assert time.perf_counter() - start < 5.0  # 640,000 characters; some tenths of a second here
    assert ends[-1] == len(text)
    assert named(name).decode(ids) == text


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
