"""Whole files in Big5, GBK, GB 18030, UTF-16, UTF-32: each comes back to the character or is refused with the place."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chinese_alpaca_rag.errors import DocumentRefusedError
from chinese_alpaca_rag.ingest.common_characters import SIMPLIFIED as COMMON
from chinese_alpaca_rag.ingest.decoding import decode
from tests.ingest.decoding_texts import GB18030, GBK, SIMPLIFIED, TRADITIONAL, WIDE

BIG5 = ("big5", "big5hkscs")
GB = ("gb18030", "gb2312", "gbk")


def encodable(text: str, codec: str) -> bytes | None:
    try:
        return text.encode(codec)
    except UnicodeEncodeError:
        return None


def big5_files() -> list[tuple[str, str, bytes]]:
    found = []
    for name, text in TRADITIONAL.items():
        # Circled numbers stand in files where ETEN put them, as in big5hkscs, not where Python's cp950 writes them.
        eten = any("①" <= character <= "⑳" for character in text)
        codec = "cp950" if encodable(text, "cp950") is not None and not eten else "big5hkscs"
        found.append((f"{codec}-{name}", text, text.encode(codec)))
    return found


def gb_files() -> list[tuple[str, str, bytes]]:
    found = []
    for codec, texts in (("gb2312", SIMPLIFIED), ("gbk", GBK), ("gb18030", GB18030)):
        for name, text in texts.items():
            data = encodable(text, codec)
            used = codec if data is not None else "gb18030"
            found.append((f"{used}-{name}", text, text.encode(used)))
    return found


def wide_files() -> list[tuple[str, str, bytes]]:
    found = []
    for codec in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"):
        found += [(f"{codec}-{name}", text, text.encode(codec)) for name, text in WIDE.items()]
    return found


def parametrized(files: list[tuple[str, str, bytes]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("text", "data"), [pytest.param(text, data, id=name) for name, text, data in files])


def test_there_are_enough_files() -> None:
    assert len(big5_files()) >= 26
    assert len(gb_files()) >= 26
    assert len(wide_files()) >= 26


@parametrized(big5_files())
def test_big5(text: str, data: bytes) -> None:
    decoded = decode(data)
    assert decoded.text == text
    assert decoded.encoding in (*BIG5, "cp950")
    assert decoded.cut_bytes == 0


@parametrized(gb_files())
def test_gb(text: str, data: bytes) -> None:
    decoded = decode(data)
    assert decoded.text == text
    assert decoded.encoding in GB
    assert decoded.cut_bytes == 0


@parametrized(wide_files())
def test_wide(text: str, data: bytes) -> None:
    decoded = decode(data)
    assert decoded.text == text
    assert decoded.encoding.replace("_", "-").startswith(("utf-16", "utf-32"))


@pytest.mark.parametrize(("codec", "texts"), [("gb18030", SIMPLIFIED), ("cp950", TRADITIONAL)])
def test_a_bad_byte_in_the_middle_is_named_by_its_place(codec: str, texts: dict[str, str]) -> None:
    whole = texts["long"].encode(codec)
    place = whole.index(b"\n", len(whole) // 2) + 1
    for bad in (b"\xff\n", b"\x80\n"):
        with pytest.raises(DocumentRefusedError) as caught:
            decode(whole[:place] + bad + whole[place:])
        assert str(place) in caught.value.message.en, bad


@pytest.mark.parametrize(("codec", "texts"), [("gb18030", SIMPLIFIED), ("cp950", TRADITIONAL)])
def test_a_file_cut_inside_its_last_character(codec: str, texts: dict[str, str]) -> None:
    for name in ("sentence", "law", "long"):
        text = texts[name].rstrip("\n。") + "完"
        decoded = decode(text.encode(codec)[:-1])
        assert (decoded.text, decoded.cut_bytes) == (text[:-1], 1), name


@given(st.text(alphabet=COMMON[:2500], min_size=12, max_size=200), st.sampled_from(["gb18030", "utf-16", "utf-8"]))
@settings(deadline=None)
def test_any_common_characters_come_back(text: str, codec: str) -> None:
    assert decode(text.encode(codec)).text == text


@given(st.binary(max_size=400), st.one_of(st.none(), st.text(max_size=20)))
@settings(deadline=None)
def test_any_bytes_are_decoded_or_refused(data: bytes, declared: str | None) -> None:
    try:
        decoded = decode(data, declared=declared)
    except DocumentRefusedError as error:
        assert error.message.zh
        assert error.hint.en
    else:
        assert 0 <= decoded.confidence <= 1


def test_random_binary_is_never_taken_for_text() -> None:
    generator = random.Random(5)
    for length in (200, 2_000, 20_000):
        for _ in range(10):
            with pytest.raises(DocumentRefusedError):
                decode(generator.randbytes(length))
