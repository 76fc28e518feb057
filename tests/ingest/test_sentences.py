from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chinese_alpaca_rag.graphemes import is_boundary
from chinese_alpaca_rag.sentences import sentence_spans


def sentences(text: str) -> list[str]:
    return [text[start:end] for start, end in sentence_spans(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("今天放假。明天上班！后天呢？", ["今天放假。", "明天上班！", "后天呢？"]),
        ("他问：“走吗？”我说：“走！”", ["他问：“走吗？”", "我说：“走！”"]),
        ("“好！”，他说。", ["“好！”，他说。"]),
        ("他想了想……然后走了……", ["他想了想……", "然后走了……"]),
        ("真的吗？！当然。", ["真的吗？！", "当然。"]),
        ("第一条；第二条；第三条。", ["第一条；", "第二条；", "第三条。"]),
        ("（见附件。）另行通知。", ["（见附件。）", "另行通知。"]),
        ("增长了3.14倍。", ["增长了3.14倍。"]),
        ("今天很好.我们走.版本3.2发布了", ["今天很好.", "我们走.", "版本3.2发布了"]),
        ("第一行\n第二行\r\n\n第三行", ["第一行", "第二行", "第三行"]),
        ("据报道[1]属实。[2]下一句。", ["据报道[1]属实。[2]", "下一句。"]),
        ('他说:"你好。"然后走了。"再见"', ['他说:"你好。"', "然后走了。", '"再见"']),
        ("‼️注意安全", ["‼️", "注意安全"]),
    ],
)
def test_chinese(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It ends here. It begins again.", ["It ends here.", "It begins again."]),
        ("Pi is 3.14. Dr. Smith and J. Doe agree.", ["Pi is 3.14.", "Dr. Smith and J. Doe agree."]),
        ("See https://a.example/b?c=1;d=2. Then go.", ["See https://a.example/b?c=1;d=2.", "Then go."]),
        ("Use e.g. this. (It works.) Good!", ["Use e.g. this.", "(It works.)", "Good!"]),
        ("1. First step.\n2. Second step.", ["1. First step.", "2. Second step."]),
        ('He said "stop." Then he left.', ['He said "stop."', "Then he left."]),
        ("Wait... Then go... slowly", ["Wait...", "Then go... slowly"]),
        ("Made by A Co. Ltd. in China", ["Made by A Co. Ltd. in China"]),
    ],
)
def test_english(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


def test_nothing() -> None:
    assert sentence_spans("") == []
    assert sentence_spans(" \n\u3000\t") == []


@given(st.text(alphabet=st.sampled_from("中文abA1 \n\u3000。！？；…，.!?;\"'”’）)([“「」『』\u0301\u200d🎉-：")))
def test_spans_hold_every_visible_character_once(text: str) -> None:
    spans = sentence_spans(text)
    assert all(start < end for start, end in spans)
    assert all(first[1] <= second[0] for first, second in itertools.pairwise(spans))
    # A space that bears an accent stays with it.
    assert all(not text[start].isspace() or not is_boundary(text, start + 1) for start, _ in spans)
    assert all(not text[end - 1].isspace() for _, end in spans)
    assert all("\n" not in text[start:end] for start, end in spans)
    outside = "".join(
        text[end:start] for (_, end), (start, _) in zip([(0, 0), *spans], [*spans, (len(text), 0)], strict=True)
    )
    assert not outside.strip()
