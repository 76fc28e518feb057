from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chinese_alpaca_rag.library import search
from chinese_alpaca_rag.library.scope import Scope
from chinese_alpaca_rag.library.store import Library
from chinese_alpaca_rag.library.terms import index_terms, query_terms
from tests.library.samples import put


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library.open(tmp_path / "library", create=True)


def sources(library: Library, query: str, *, limit: int = 20, paths: Sequence[str] | None = None) -> list[str]:
    return [
        passage.source
        for passage, _ in library.search(query, limit=limit, scope=None if paths is None else Scope(tuple(paths)))
    ]


def test_the_passage_that_answers_comes_first(library: Library) -> None:
    put(library, "/年假", "正式员工每年享有十五天带薪年假，未休完的年假可以结转。")
    put(library, "/差旅", "员工出差住宿每晚不超过五百元，员工每年结算一次。")
    put(library, "/作息", "员工每天工作八小时，上午九点上班。")
    assert sources(library, "员工每年有多少天年假？")[0] == "/年假"
    assert sources(library, "出差住宿标准是多少？")[0] == "/差旅"
    assert sources(library, "几点上班？")[0] == "/作息"


def test_one_rare_character_finds_its_passage(library: Library) -> None:
    put(library, "/蓍", "蓍，又名千叶蓍，是菊科植物。")
    for number in range(5):
        put(library, f"/{number}", "植物的别名有很多，别名是什么要看地方。")
    assert sources(library, "蓍的别名是什么？")[0] == "/蓍"


@pytest.mark.parametrize(
    ("question", "text"),
    [
        ("年假", "特別休假：每年享有年假十五天。"),
        ("员工手册", "員工手冊第一章"),
        ("員工手冊", "员工手册第一章"),
        ("ZX200", "型号 ＺＸ２００ 的价格"),
        ("zx-200", "型号 ZX-200 的价格"),
        ("200", "型号 ZX-200 的价格"),
        ("1234567", "共 1,234,567 元"),
        ("2023年5月1日", "签于 2023-05-01"),
        ("the employee", "All employees get a badge."),
        ("휴가", "연차휴가는 15일입니다"),
        ("カード", "社員ｶｰﾄﾞを忘れた"),
        ("𠮷野家", "𠮷野家的地址"),
    ],
)
def test_ways_of_writing_the_same(library: Library, question: str, text: str) -> None:
    put(library, "/别的", "完全无关", title="")
    put(library, "/要找的", text, title="")
    assert sources(library, question) == ["/要找的"]


def test_a_number_inside_another_is_not_that_number(library: Library) -> None:
    put(library, "/年", "2015 号")
    assert sources(library, "15") == []


def test_title_and_heading_are_searched(library: Library) -> None:
    put(library, "/a", "每年十五天。", title="员工手册", heading="休假 › 年假")
    put(library, "/b", "每年十五天。", title="价目表", heading="附录")
    assert sources(library, "年假")[0] == "/a"
    assert sources(library, "附录") == ["/b"]
    assert sources(library, "员工手册里每年几天") == ["/a", "/b"]


@pytest.mark.parametrize("query", ["", "   ", "？！……", "\n\0", "()[]", '"', "-:*^"])
def test_a_query_without_terms_finds_nothing(library: Library, query: str) -> None:
    put(library, "/a", '年假规定 "()')
    assert library.search(query) == []


@given(query=st.text(max_size=80))
@settings(deadline=None, max_examples=200)
def test_no_query_is_an_error(query: str, searched: Library) -> None:
    for passage, score in searched.search(query):
        assert score > 0
        assert set(query_terms(query)) & set(index_terms(f"{passage.text}。{passage.title}"))


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Library:
    library = Library.open(tmp_path_factory.mktemp("searched"), create=True)
    put(library, "/a", 'NEAR(a b) AND OR NOT title: body:"x" ^y -z * C++ C# 15,000 “引号” é ß')
    put(library, "/b", "年假为十五天。0123456789 abcdefghijklmnopqrstuvwxyz")
    return library


def test_paths_narrow_the_search(library: Library) -> None:
    for name in ("/a", "/b", "/c"):
        put(library, name, "年假规定")
    assert sources(library, "年假", paths=["/c", "/a"]) == ["/a", "/c"]
    assert sources(library, "年假", paths=["/没有"]) == []
    assert sources(library, "年假", paths=[]) == []
    many = [f"/{number}" for number in range(2000)]
    assert sources(library, "年假", paths=[*many, "/b"]) == ["/b"]


def test_limit_and_order(library: Library) -> None:
    put(library, "/一", "年假", "年假年假年假", "年假")
    found = library.search("年假", limit=2)
    assert len(found) == 2
    scores = [score for _, score in library.search("年假")]
    assert scores == sorted(scores, reverse=True)
    assert library.search("年假", limit=0) == []
    same = [passage.page for passage, score in library.search("年假") if score == scores[-1]]
    assert same == sorted(same)


def test_the_scores_are_bm25(library: Library) -> None:
    texts = ["年假为十五天，年假。", "病假凭证明 ZX-200。", "事假不带薪，年底结算。", "ZX-200 的说明"]
    for number, text in enumerate(texts):
        put(library, f"/{number}", text, title="")
    query = "年假 zx-200"
    held = [Counter(index_terms(text)) for text in texts]
    mean = sum(map(len, texts)) / len(texts)
    expected = []
    for text, terms in zip(texts, held, strict=True):
        score = 0.0
        for term in query_terms(query):
            n = sum(1 for other in held if other[term])
            weight = math.log(1 + (len(texts) - n + 0.5) / (n + 0.5))
            norm = search.K1 * (1 - search.B + search.B * len(text) / mean)
            score += weight * terms[term] * (search.K1 + 1) / (terms[term] + norm)
        expected.append(score)
    found = {passage.source: score for passage, score in library.search(query)}
    assert found == pytest.approx({f"/{number}": score for number, score in enumerate(expected) if score})


def test_scores_do_not_depend_on_the_librarys_history(tmp_path: Path) -> None:
    texts = {f"/{number}": f"第{number}条 年假{'规定' * (number % 3)}" for number in range(12)}
    with Library.open(tmp_path / "new", create=True) as library:
        for path, text in texts.items():
            put(library, path, text)
        fresh = [(passage.source, score) for passage, score in library.search("年假规定第3条")]
    with Library.open(tmp_path / "old", create=True) as library:
        library.search("年假规定第3条")
        for path in reversed(texts):
            put(library, path, "先前的年假规定" * 9)
            library.search("年假规定第3条")
        for path, text in texts.items():
            put(library, path, text)
        put(library, "/多余", "年假")
        library.remove_file("/多余")
        assert [(passage.source, score) for passage, score in library.search("年假规定第3条")] == fresh


def test_common_terms_are_left_to_the_second_step(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a small budget of postings the rare terms choose, and the common ones still count in the score."""
    put(library, "/近", "甲乙公司的产品说明")
    put(library, "/远", "甲乙丙丁")
    for number in range(50):
        put(library, f"/{number}", "公司的产品")
    before = library.search("甲乙公司的产品", limit=3)
    monkeypatch.setattr(search, "POSTINGS", 10)
    assert library.search("甲乙公司的产品", limit=3)[:2] == before[:2]
    assert len(library.search("甲乙公司的产品", limit=30)) == 30


def test_a_question_of_a_hundred_thousand_characters(library: Library) -> None:
    generator = random.Random(7)
    noise = "".join(chr(0x4E00 + generator.randrange(3000)) for _ in range(100_000))
    for number in range(30):
        put(library, f"/{number}", noise[number * 3000 : number * 3000 + 400])
    put(library, "/要找的", "龘靐齉爩鱻麤", title="")
    found = sources(library, noise[0:99_000] + "龘靐齉爩鱻麤" + "的" * 1000, limit=40)
    assert len(found) == 31  # the end of the question is read as its beginning is


def test_a_library_of_one_passage(library: Library) -> None:
    put(library, "/a", "年假为十五天。")
    [(passage, score)] = library.search("年假几天")
    assert passage.text == "年假为十五天。"
    assert score > 0
