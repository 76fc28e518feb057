"""Labels: what is written is read back, and nothing else is taken for one."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chinese_alpaca_rag.labels import document_label, read_label

DIGEST = "0" * 64
# Lone surrogates stand for the bytes of a file name that is not UTF-8.
NAMES = st.text(st.characters(codec=None), min_size=1)


@given(NAMES, NAMES, st.text("0123456789abcdef", min_size=64, max_size=64))
def test_a_label_is_read_back(library: str, path: str, sha256: str) -> None:
    label = document_label(library, path, sha256)
    assert read_label(label) == (library, path, sha256)
    assert "\n" not in label


def test_the_label_is_the_one_that_is_documented() -> None:
    assert document_label("/知识库", '/a "b"\n.txt', DIGEST) == f'["/知识库","/a \\"b\\"\\n.txt","{DIGEST}"]'


@pytest.mark.parametrize(
    "text",
    [
        "", "/docs/手册.pdf", "[]", '["', '"]', '["]', '["a"]', '["a","b"]', '["a","b","c","d"]', '["a","b",1,"c"]',
        '["a",["b"],"c"]', '["a",null,"c"]', '["a","","c"]', '["","b","c"]', '["a","b",""]', '["a", "b", "c"]',
        ' ["a","b","c"]', '["\\u0061","b","c"]', '["a\nb","b","c"]', '{"a":"b"}', '["a",' + "9" * 10_000 + ',"c"]',
        '["a",' + "[" * 200_000 + ',"c"]',
    ],
)  # fmt: skip
def test_anything_else_is_no_label(text: str) -> None:
    assert read_label(text) is None


@given(st.text() | st.lists(st.text() | st.none(), max_size=4).map(json.dumps))
def test_no_text_breaks_the_reading(text: str) -> None:
    read = read_label(text)
    assert read is None or document_label(*read) == text
