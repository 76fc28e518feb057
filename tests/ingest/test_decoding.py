from __future__ import annotations

import codecs
import json
import os
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chinese_alpaca_rag.errors import DocumentRefusedError, WrongUsageError
from chinese_alpaca_rag.ingest.decoding import decode
from tests.ingest.texts import ENGLISH, SIMPLIFIED, TRADITIONAL
from tests.shared_data import shared_data


@pytest.mark.parametrize(
    "codec", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "gb18030", "gbk"]
)
@pytest.mark.parametrize("text", SIMPLIFIED)
def test_simplified_lines(text: str, codec: str) -> None:
    assert decode(text.encode(codec)).text == text


@pytest.mark.parametrize("codec", ["utf-8", "utf-16-le", "utf-16-be", "gb18030", "gbk", "big5", "cp950", "big5hkscs"])
@pytest.mark.parametrize("text", TRADITIONAL)
def test_traditional_lines(text: str, codec: str) -> None:
    assert decode(text.encode(codec)).text == text


@pytest.mark.parametrize("codec", ["gb18030", "big5"])
def test_short_texts(codec: str) -> None:
    """Pieces of a few characters, as in files of one line."""
    texts = SIMPLIFIED if codec == "gb18030" else TRADITIONAL
    pieces = [text[start : start + 5] for text in texts for start in range(0, len(text) - 5, 3)]
    wrong = [piece for piece in pieces if decode(piece.encode(codec)).text != piece]
    assert not wrong


@pytest.mark.parametrize(
    ("text", "codec"),
    [
        ("年假", "gbk"),
        ("年假", "big5"),
        ("通知", "gbk"),
        ("通知", "big5"),
        ("联通", "gbk"),
        ("一", "gbk"),
        ("二〇二四年〇月", "gbk"),
        ("喆、镕、犇", "gb18030"),
        ("𠮷野家", "gb18030"),
        ("㑇㑊", "utf-8"),
        ("公司名稱：騰訊", "big5"),
        ("café", "utf-8"),
        ("Größe über Straße", "cp1252"),
        ("café résumé naïve", "cp1252"),
        ("Привет", "utf-8"),
        ("こんにちは世界", "cp932"),
        ("日本語のテキストです", "euc_jp"),
        ("안녕하세요 세계", "cp949"),
        ("你好世界", "utf-16-le"),
        ("plain English text", "utf-16-be"),
        ("plain English text", "utf-16-le"),
        ("卡拉OK‧臺北", "cp950"),
        ("收件／寄件地址", "big5"),
        ("收件／寄件地址", "cp950"),
        ("日本動畫「ビスマルク」", "big5hkscs"),
        ("桃の陣亦有邀請陣內擔任主持", "big5hkscs"),
        ("嚐嚐煊粧", "big5hkscs"),
    ],
)
def test_rare_and_short(text: str, codec: str) -> None:
    assert decode(text.encode(codec)).text == text


@pytest.mark.parametrize(("texts", "codec"), [(SIMPLIFIED, "gbk"), (TRADITIONAL, "big5")])
def test_a_long_ascii_head_does_not_mislead(texts: tuple[str, ...], codec: str) -> None:
    text = "# configuration, all ASCII\n" + "key = value\n" * 40_000 + "\n".join(texts) + "\n" + ENGLISH
    assert decode(text.encode(codec)).text == text


def test_a_large_file_without_line_breaks() -> None:
    text = "".join(SIMPLIFIED) * 4_000
    decoded = decode(text.encode("gb18030"))
    assert decoded.text == text
    assert decoded.encoding == "gb18030"


def test_encodings_are_named_as_python_names_them() -> None:
    assert decode("你好，世界".encode()).encoding == "utf-8"
    assert decode("你好，世界".encode("gbk")).encoding == "gb18030"
    assert decode(TRADITIONAL[0].encode("big5")).encoding == "big5"
    assert decode(codecs.BOM_UTF16_LE + "你好".encode("utf-16-le")).encoding == "utf-16-le"


def test_confidence_is_low_where_it_is_a_toss_up() -> None:
    sure = decode("".join(TRADITIONAL).encode("big5"))
    unsure = decode("援".encode("big5"))
    assert sure.confidence > 0.999
    assert unsure.confidence < 0.9


def test_a_file_that_ends_inside_a_character_is_read_to_there() -> None:
    text = "".join(SIMPLIFIED)
    for codec in ("gb18030", "utf-8"):
        decoded = decode(text.encode(codec)[:-1])
        assert decoded.text == text[:-1]
        assert decoded.cut_bytes in (1, 2)


def test_one_bad_byte_in_utf8_is_refused_and_not_made_into_gibberish() -> None:
    data = bytearray("".join(SIMPLIFIED).encode())
    data[100] = 0xFF
    with pytest.raises(DocumentRefusedError, match="utf-8") as caught:
        decode(bytes(data))
    assert "--encoding" in caught.value.hint.en


@pytest.mark.parametrize("data", [b"\x89PNG\r\n\x1a\n" + bytes(range(256)), b"\0" * 100, bytes(range(256)) * 4])
def test_binary_data_is_refused(data: bytes) -> None:
    with pytest.raises(DocumentRefusedError):
        decode(data)


def test_random_bytes_are_refused() -> None:
    for _ in range(20):
        with pytest.raises(DocumentRefusedError):
            decode(os.urandom(2_000))


def test_the_users_word_is_followed_strictly() -> None:
    text = TRADITIONAL[0]
    assert decode(text.encode("big5"), encoding="big5").text == text
    assert decode(codecs.BOM_UTF8 + text.encode(), encoding="UTF8").text == text
    assert decode(text.encode("utf-16"), encoding="utf-16").text == text
    with pytest.raises(DocumentRefusedError, match="utf-8"):
        decode(text.encode("big5"), encoding="utf-8")
    with pytest.raises(WrongUsageError, match="klingon"):
        decode(b"abc", encoding="klingon")
    with pytest.raises(WrongUsageError, match="base64"):
        decode(b"abc", encoding="base64")


def test_what_a_file_says_of_itself_counts_unless_the_bytes_disagree() -> None:
    russian = "Привет, как дела? Сегодня хорошая погода."
    assert decode(russian.encode("koi8-r"), declared="koi8-r").text == russian
    assert decode(russian.encode("cp1251"), declared="windows-1251").text == russian
    assert decode(SIMPLIFIED[0].encode(), declared="gb2312").text == SIMPLIFIED[0]
    assert decode(SIMPLIFIED[0].encode("gbk"), declared="iso-8859-1").text == SIMPLIFIED[0]
    assert decode("镕".encode("gbk"), declared="gb2312").text == "镕"


@given(st.text(alphabet=st.characters(min_codepoint=32, exclude_categories=["Cs", "Co", "Cn", "Cc"]), min_size=1))
def test_utf8_with_a_mark_is_always_exact(text: str) -> None:
    assert decode(codecs.BOM_UTF8 + text.encode()).text == text


def test_hundreds_of_encyclopaedia_passages() -> None:
    data = json.loads(shared_data("cmrc2018-trial.json").read_text(encoding="utf-8"))
    passages = [paragraph["context"] for article in data["data"] for paragraph in article["paragraphs"]]
    dice = random.Random(7)
    tried = 0
    for passage in passages:
        start = dice.randrange(len(passage) - 12)
        for text in (passage, passage[start : start + 12]):
            if text.isascii():
                continue
            for codec in ("utf-8", "gb18030", "utf-16-le", "utf-16-be"):
                assert decode(text.encode(codec)).text == text, (codec, text[:30])
                tried += 1
    assert tried > 2_000


@pytest.mark.parametrize(
    "declared", ["base64", "rot13", "hex", "a\0b", "undefined", "idna", "unicode_escape", "x" * 9999]
)
def test_a_declared_encoding_that_is_none_is_not_followed(declared: str) -> None:
    text = "关于员工年假的规定与说明，请各位同事遵守。"
    decoded = decode(text.encode("gb18030"), declared=declared)
    assert (decoded.text, decoded.encoding) == (text, "gb18030")
