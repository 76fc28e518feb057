from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_text_splitters import TextSplitter

from chinese_alpaca_rag.errors import WrongUsageError
from chinese_alpaca_rag.graphemes import is_boundary
from chinese_alpaca_rag.ingest.headings import HeadingPath, find_headings
from chinese_alpaca_rag.ingest.splitting import ChineseTextSplitter, split_document
from chinese_alpaca_rag.library.records import Page, ParsedDocument, PassageSpan
from chinese_alpaca_rag.sentences import sentence_spans
from tests.ingest.texts import ENGLISH, SIMPLIFIED
from tests.shared_data import shared_data

PIECES = (
    *SIMPLIFIED,
    *(ENGLISH, "\n", "\n\n", "# 标题\n", "第一章 总则\n", "一、目的\n", "1.1 范围\n", "第五条 员工应当守时。\n"),
    *("👩\u200d👩\u200d👧", "e\u0301", "🇨🇳", "字" * 90, "word " * 30, "，", " ", "……", "a" * 70),
)
PROSE = st.lists(st.sampled_from(PIECES), max_size=40).map("".join)


def document(*texts: str, kind: str = "markdown") -> ParsedDocument:
    return ParsedDocument(kind, "t", tuple(Page(number, text) for number, text in enumerate(texts, start=1)))


def passages(text: str, *, size: int = 100, kind: str = "markdown", overlap: int = 0) -> list[tuple[str, str]]:
    spans = split_document(document(text, kind=kind), size=size, overlap=overlap)
    return [(span.heading, text[span.start : span.end]) for span in spans]


def assert_whole(text: str, spans: list[PassageSpan], size: int) -> None:
    """What every splitting has to keep, whatever the text."""
    edges = [0, *itertools.chain.from_iterable((span.start, span.end) for span in spans), len(text)]
    assert edges == sorted(edges)
    outside = "".join(text[edges[index] : edges[index + 1]] for index in range(0, len(edges), 2))
    assert not outside.strip()
    sentences = sentence_spans(text)
    for span in spans:
        assert span.start < span.end
        assert not text[span.end - 1].isspace()
        assert not text[span.start].isspace() or not is_boundary(text, span.start + 1)
        assert span.end - span.start <= max(1.2 * size, size + 40)
        for place in (span.start, span.end):
            assert is_boundary(text, place)
            cut = next(((start, end) for start, end in sentences if start < place < end), None)
            assert cut is None or cut[1] - cut[0] > size


@given(PROSE, st.integers(20, 300))
def test_passages_hold_everything_once_and_cut_nothing_that_fits(text: str, size: int) -> None:
    assert_whole(text, split_document(document(text), size=size), size)


@example(" \u0300", 10)  # a space that bears an accent
@example("字。 \u0300 \u0301字", 2)
@given(st.text(max_size=300), st.integers(1, 60))
def test_any_text_at_any_size(text: str, size: int) -> None:
    assert_whole(text, split_document(document(text, kind="text"), size=size), size)


@given(PROSE, st.integers(60, 200), st.integers(0, 50))
def test_an_overlap_repeats_whole_sentences(text: str, size: int, overlap: int) -> None:
    plain = split_document(document(text), size=size)
    spans = split_document(document(text), size=size, overlap=overlap)
    assert [span.end for span in spans] == [span.end for span in plain]
    for span, without in zip(spans, plain, strict=True):
        assert 0 <= without.start - span.start <= overlap


def test_passages_never_cross_a_page() -> None:
    spans = split_document(document("短。", "也短。", "", "第四页。"))
    assert [(span.page, span.start, span.end) for span in spans] == [(1, 0, 2), (2, 0, 3), (4, 0, 4)]


def test_sentences_stay_whole_and_passages_come_near_the_size() -> None:
    text = "".join(SIMPLIFIED) * 20
    lengths = [len(passage) for _, passage in passages(text, size=300, kind="text")]
    assert max(lengths) <= 360
    assert sum(lengths) / len(lengths) > 200


def test_headings_give_the_path_of_what_stands_below() -> None:
    text = (
        "# 手册\n\n序言。\n\n## 考勤\n"
        + "员工每日工作八小时。" * 12
        + "\n\n## 休假\n### 年假\n"
        + "满一年的有五天。" * 14
    )
    found = passages(text)
    assert found[0] == ("手册", found[0][1])
    assert found[0][1].startswith("# 手册\n\n序言。")
    assert {heading for heading, _ in found[1:]} == {"手册 › 考勤", "手册 › 休假 › 年假"}
    # A heading goes with what it stands above, never at the end of the passage before.
    assert any(passage.startswith("## 休假\n### 年假\n满一年") for _, passage in found)


def test_the_numbering_of_regulations() -> None:
    text = (
        "第一章 总则\n第一条 为规范管理，制定本制度。\n第二条 本制度适用于全体员工。\n"
        "第二章 考勤\n第三条 " + "员工应当按时上班。" * 12 + "\n第四条 " + "员工应当按时下班。" * 12
    )
    found = passages(text, kind="text")
    assert found[0][0] == "第一章 总则"
    assert [heading for heading, _ in found[1:] if heading] == sorted(heading for heading, _ in found[1:])
    assert any(heading == "第二章 考勤 › 第三条" for heading, _ in found)
    assert found[-1][0] == "第二章 考勤 › 第四条"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("一、目的\n说明。\n（一）范围\n说明。\n二、职责\n说明。", ["一、目的", "（一）范围", "二、职责"]),
        ("1. 苹果\n2. 香蕉\n3. 梨", []),
        ("第一章 总则........1\n第二章 考勤........3\n", []),
        ("1.1 范围\n说明。\n1.2 术语\n说明。", ["1.1 范围", "1.2 术语"]),
        ("3.14 是圆周率的近似值，大家都知道。\n说明。", []),
        ("2024年工作总结\n说明。", []),
        ("第 1 节 模板使用说明\n说明。", ["第 1 节 模板使用说明"]),
        ("参考文献\n[1] 某书。", ["参考文献"]),
        ("1 产品概述\n说明。\n1.1 外形\n说明。", ["1 产品概述", "1.1 外形"]),
        ("1 使用前须知\t3\n2 产品概述\t4", []),
        ("1. 这一条是完整的句子，说明要做的事情。\n说明。", []),
        ("# 不是标题\n说明。", []),
    ],
)
def test_which_lines_are_headings(text: str, expected: list[str]) -> None:
    assert [heading.title for heading in find_headings(text, marked=False).values()] == expected


def test_code_is_no_heading() -> None:
    text = "# 安装\n```\n# 注释\n```\n## 配置\n说明"
    assert [heading.title for heading in find_headings(text, marked=True).values()] == ["安装", "配置"]


def test_which_headings_close_which() -> None:
    text = "目录\n说明。\n第一章 甲\n说明。\n一、乙\n说明。\n1. 丙\n说明。\n二、丁\n说明。\n第二章 戊\n说明。"
    path = HeadingPath()
    paths = []
    for heading in find_headings(text, marked=False).values():
        path.enter(heading)
        paths.append(str(path))
    assert paths == [
        "目录",
        "第一章 甲",
        "第一章 甲 › 一、乙",
        "第一章 甲 › 一、乙 › 1. 丙",
        "第一章 甲 › 二、丁",
        "第二章 戊",
    ]


def test_a_path_goes_on_over_pages_but_not_over_slides() -> None:
    texts = ("第一章 总则\n说明。", "接着的一页。")
    pages = tuple(Page(number, text) for number, text in enumerate(texts, start=1))
    assert split_document(ParsedDocument("pdf", "t", pages, "page"))[1].heading == "第一章 总则"
    assert split_document(ParsedDocument("pptx", "t", pages, "slide"))[1].heading == ""


def test_a_running_head_does_not_continue_the_part_before() -> None:
    texts = (
        "第一章 总则\n说明。",
        "公司手册\n\n第2页 共9页\n\n第二章 考勤\n说明。",
        "公司手册\n\n还是第二章的说明。\n第三章 休假\n说明。",
    )
    spans = split_document(ParsedDocument("pdf", "t", tuple(Page(n, t) for n, t in enumerate(texts, 1)), "page"))
    assert [span.heading for span in spans] == ["第一章 总则", "第二章 考勤", "第二章 考勤"]


def test_the_splitter_for_langchain_gives_exact_places() -> None:
    text = "前言。\n\n" + "".join(SIMPLIFIED) * 3
    splitter = ChineseTextSplitter(chunk_size=120, chunk_overlap=30)
    documents = splitter.split_documents([Document(page_content=text, metadata={"source": "a"})])
    assert len(documents) > 3
    for one in documents:
        start = one.metadata["start_index"]
        assert one.metadata["source"] == "a"
        assert one.page_content == text[start : start + len(one.page_content)]
    assert splitter.split_text(text) == [one.page_content for one in documents]
    assert [
        one.page_content for one in splitter.transform_documents([Document(page_content=text)])
    ] == splitter.split_text(text)
    assert "start_index" not in ChineseTextSplitter(add_start_index=False).create_documents([text])[0].metadata


@pytest.mark.parametrize(("size", "overlap"), [(0, 0), (10, 10), (10, -1)])
def test_sizes_that_make_no_sense(size: int, overlap: int) -> None:
    with pytest.raises(WrongUsageError):
        ChineseTextSplitter(size, overlap)
    with pytest.raises(WrongUsageError):
        split_document(document("x"), size=size, overlap=overlap)


def test_characters_that_readers_see_as_one() -> None:
    regex = pytest.importorskip("regex", reason="the reference for grapheme clusters")
    pool = [
        "a",
        "中",
        "\u0301",
        "👩",
        "\u200d",
        "❤",
        "\ufe0f",
        "🏽",
        "🇨",
        "🇳",
        "\r",
        "\n",
        "ก",
        "ำ",
        "क",
        "्",
        "ष",
        "각",
        "ᄀ",
        "ᅡ",
    ]
    for characters in itertools.product(pool, repeat=3):
        text = "".join(characters)
        ends = set(itertools.accumulate(len(cluster) for cluster in regex.findall(r"\X", text)))
        for index in range(1, len(text)):
            assert not is_boundary(text, index) or index in ends, ascii(text)


def test_encyclopaedia_passages_are_split_whole() -> None:
    data = json.loads(shared_data("cmrc2018-trial.json").read_text(encoding="utf-8"))
    for article in data["data"]:
        for paragraph in article["paragraphs"]:
            text = paragraph["context"]
            assert_whole(text, split_document(document(text, kind="text"), size=150), 150)


def tokens(text: str) -> int:
    """A length that does not add up over parts of a text, as those of tokenizers do not."""
    return len(text.encode()) // 3 + text.count("年假") + (1 if text else 0)


@example("# 标题\n# 标题\n员工入职满一年不满十年的，年休假为五天。", 8, 0)  # a heading that fits above nothing
@given(PROSE, st.integers(8, 120), st.integers(0, 7))
def test_a_budget_of_tokens_is_never_exceeded(text: str, size: int, overlap: int) -> None:
    spans = split_document(document(text), size=size, overlap=overlap, length=tokens)
    held: set[int] = set()
    for span in spans:
        part = text[span.start : span.end]
        held.update(range(span.start, span.end))
        assert is_boundary(text, span.start)
        assert is_boundary(text, span.end)
        assert tokens(part) <= size or not any(is_boundary(part, place) for place in range(1, len(part)))
    assert all(text[place].isspace() for place in range(len(text)) if place not in held)
    if not overlap:
        assert len(held) == sum(span.end - span.start for span in spans)


def test_a_budget_of_tokens_is_used() -> None:
    text = "".join(f"第{number}条规定员工每年有十五天年假。" for number in range(300))
    spans = split_document(document(text, kind="text"), size=100, length=tokens)
    used = [tokens(text[span.start : span.end]) for span in spans[:-1]]
    assert min(used) > 75


def test_length_functions_that_count_characters_cost_nothing() -> None:
    text = "年假规定。" * 2000
    counted = split_document(document(text, kind="text"), length=len)
    assert counted == split_document(document(text, kind="text"))


def test_a_splitter_for_langchain() -> None:
    splitter = ChineseTextSplitter(chunk_size=40, chunk_overlap=10, length_function=tokens)
    assert isinstance(splitter, TextSplitter)
    text = "第一章 总则\n" + "员工每年享有年假，并应当提前申请。" * 20
    parts = splitter.transform_documents([Document(page_content=text, metadata={"source": "a", "tags": ["x"]})])
    assert len(parts) > 3
    for part in parts:
        start = part.metadata["start_index"]
        assert text[start : start + len(part.page_content)] == part.page_content
        assert part.metadata["source"] == "a"
        assert start == 0 or part.metadata["heading"] == "第一章 总则"
        assert tokens(part.page_content) <= 40
    parts[0].metadata["tags"].append("y")
    assert parts[1].metadata["tags"] == ["x"]


def test_the_familys_own_tokens() -> None:
    import sentencepiece

    model = sentencepiece.SentencePieceProcessor(model_file=str(shared_data("tokenizer") / "tokenizer.model"))
    data = json.loads(shared_data("cmrc2018-trial.json").read_text(encoding="utf-8"))
    text = "\n".join(paragraph["context"] for article in data["data"][:40] for paragraph in article["paragraphs"])

    def length(part: str) -> int:
        return len(model.encode(part))

    spans = split_document(document(text, kind="text"), size=256, length=length)
    counts = [length(text[span.start : span.end]) for span in spans]
    assert max(counts) <= 256
    assert sum(counts) / len(counts) > 150
