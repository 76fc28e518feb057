from __future__ import annotations

import asyncio
import random
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessageChunk, HumanMessage, SystemMessage
from langchain_tests.unit_tests import ChatModelUnitTests
from pydantic import ValidationError

from chinese_alpaca_rag.llms.extractive import NOTHING_FOUND, NOTHING_TO_READ, NOTICE, ExtractiveReader
from chinese_alpaca_rag.llms.interface import CountsPrompts, ReadsSources, SourceText

HANDBOOK = SourceText(
    1,
    "# 第四章 休假\n员工依法享受带薪年休假。累计工作满1年不满10年的，每年有7天年假；满10年不满20年的，每年有12天年假。"
    "年假由部门负责人批准。没有休完的年假可以顺延到次年3月31日。",
)
TRAVEL = SourceText(
    2, "员工出差，住宿费每晚不超过500元。差旅费由财务部审核，因为预算由财务部编制。\n报销应在十五天内提交。"
)
PRODUCT = SourceText(
    3,
    "HG-T20 温湿度变送器由周明设计，2019年上市。\nHG-T20L 是它的无线版本，含税单价498元。\nHG-T20 的含税单价为368元。",
)
SOURCES = [HANDBOOK, TRAVEL, PRODUCT]


def ask(question: str, sources: list[SourceText] | None = None, **options: Any) -> list[str]:
    """The lines of the answer."""
    given_sources = SOURCES if sources is None else sources
    answer = ExtractiveReader(**options).invoke("", question=question, sources=given_sources)
    return str(answer.text).split("\n")


class TestExtractiveReader(ChatModelUnitTests):
    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ExtractiveReader

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {}

    @property
    def standard_chat_model_params(self) -> dict[str, Any]:
        return {}  # nothing is sampled: temperature and the like would have no effect, and are refused

    @pytest.mark.xfail(reason="the reader counts no tokens: it takes no max_tokens", strict=True)
    def test_standard_params(self, model: BaseChatModel) -> None:
        super().test_standard_params(model)


@pytest.mark.parametrize(
    ("question", "first"),
    [
        ("工作满10年的员工每年有多少天年假？", "满10年不满20年的，每年有12天年假"),
        ("工作满十年的员工每年有几天年假？", "满10年不满20年的，每年有12天年假"),
        ("年假由谁批准？", "年假由部门负责人批准。[1]"),
        ("没休完的年假可以顺延到什么时候？", "没有休完的年假可以顺延到次年3月31日。[1]"),
        ("出差住宿费每晚多少元？", "员工出差，住宿费每晚不超过500元。[2]"),
        ("差旅費由哪個部門審核？", "差旅费由财务部审核，因为预算由财务部编制。[2]"),
        ("为什么差旅费由财务部审核？", "差旅费由财务部审核，因为预算由财务部编制。[2]"),
        ("出差后多久内要报销？", "报销应在十五天内提交。[2]"),
        ("HG-T20的含税单价是多少？", "HG-T20 的含税单价为368元。[3]"),
        ("hg-t20l 的单价是多少元？", "HG-T20L 是它的无线版本，含税单价498元。[3]"),
        ("谁设计了HG-T20？", "HG-T20 温湿度变送器由周明设计，2019年上市。[3]"),
        ("ＨＧ－Ｔ２０哪一年上市？", "HG-T20 温湿度变送器由周明设计，2019年上市。[3]"),
    ],
)
def test_the_sentence_that_answers_comes_first(question: str, first: str) -> None:
    assert first in ask(question)[0]


def test_a_faq_is_answered_by_what_follows_the_question() -> None:
    faq = SourceText(
        1,
        "问：为什么读数总是偏低？\n答：最常见的是装在了风机出口附近。\n问：多久校准一次？\n答：建议每24个月校准一次。",
    )
    assert ask("为什么读数总是偏低？", [faq])[0] == "答：最常见的是装在了风机出口附近。[1]"
    assert ask("要多久校准一次？", [faq])[0] == "答：建议每24个月校准一次。[1]"


def test_a_heading_is_no_answer() -> None:
    text = SourceText(1, "附则\n其他\n年假天数\n每人每年有十二天。\n病假天数\n每人每年有五天。")
    assert ask("年假有多少天？", [text])[0] == "每人每年有十二天。[1]"
    assert ask("病假有多少天？", [text])[0] == "每人每年有五天。[1]"


def test_each_line_is_a_stretch_of_its_source() -> None:
    by_number = {source.number: source.text for source in SOURCES}
    for question in ("年假有几天？", "", "HG-T20 是什么？", "财务部做什么？"):
        for line in ask(question):
            quote, _, number = line.removesuffix("]").rpartition("[")
            assert quote in by_number[int(number)]


@settings(deadline=None, max_examples=60)
@given(
    texts=st.lists(
        st.text(alphabet=st.sampled_from("年假十二天15员工。，；\n “”[1]？ aB-|\t…"), max_size=120), max_size=4
    ),
    question=st.text(alphabet=st.sampled_from("年假几天多少员工？什么1 aB"), max_size=12),
)
def test_any_text_is_quoted_word_for_word(texts: list[str], question: str) -> None:
    sources = [SourceText(number, text) for number, text in enumerate(texts, start=1)]
    answer = str(ExtractiveReader().invoke("", question=question, sources=sources).text)
    said_nothing = [words.text(language) for words in (NOTHING_FOUND, NOTHING_TO_READ) for language in ("zh", "en")]
    if answer in said_nothing:
        return
    for line in answer.split("\n"):
        quote, _, number = line.removesuffix("]").rpartition("[")
        assert quote
        assert quote in sources[int(number) - 1].text


def test_no_more_sentences_than_wanted_and_the_unlikely_left_out() -> None:
    assert len(ask("年假有几天？", max_sentences=1)) == 1
    assert len(ask("年假有几天？", max_sentences=2, min_chance=0.0)) == 2
    assert len(ask("年假有几天？", min_chance=1.0)) == 1
    assert len(ask("年假有几天？")) <= 3


@pytest.mark.parametrize("question", ["火星上有多少个火山？", "zzz?", "的", "？？？", "How is the weather of the day?"])
def test_a_question_that_nothing_matches_cites_nothing(question: str) -> None:
    language = "zh" if any(ord(character) > 0x3000 and character.isalpha() for character in question) else "en"
    assert ask(question) == [NOTHING_FOUND.text("zh" if language == "zh" else "en")]
    assert ask(question, []) == [NOTHING_FOUND.text("zh" if language == "zh" else "en")]


def test_without_sources_there_is_nothing_to_summarise() -> None:
    assert ask("", []) == [str(NOTHING_TO_READ)]
    assert ask("", [SourceText(1, " \n")]) == [str(NOTHING_TO_READ)]


def test_a_citation_mark_at_a_sentences_end_is_not_taken_along() -> None:
    assert ask("谁写的？", [SourceText(7, "此书由李白所写[12]。他是诗人。[3]")])[0] == "此书由李白所写[12]。[7]"
    assert ask("诗人是谁？", [SourceText(7, "他是诗人。[3]")]) == ["他是诗人。[7]"]


def test_a_text_without_punctuation_is_quoted_in_parts() -> None:
    filler = " ".join(f"第{number}项" for number in range(400))
    [line] = ask("密码是多少？", [SourceText(1, f"{filler} 密码 8842 {filler}")], max_sentences=1)
    assert "密码 8842" in line
    assert len(line) < 320


def test_a_summary_takes_from_everywhere_in_order() -> None:
    sources = [
        SourceText(number, f"第{number}章说的是{topic}。公司的{topic}工作由专人负责，每年年底向公司汇报。今天天气好。")
        for number, topic in enumerate(("采购", "生产", "质量", "销售", "售后"), start=1)
    ]
    lines = ask("", sources, max_characters=130)
    numbers = [int(line[-2]) for line in lines]
    assert numbers == sorted(numbers)
    assert len(set(numbers)) >= 4
    assert sum(len(line) - 3 for line in lines) <= 130
    longer = ExtractiveReader().invoke("", question="", sources=sources, max_characters=1000)
    assert len(str(longer.text)) > 200


def test_a_summary_says_nothing_twice_and_no_headings() -> None:
    scope = "本制度适用于公司的全体员工和外包人员"
    text = f"# 第一章 总则\n{scope}。\n{scope}！\n## 适用范围\n制度由人事部负责解释和修订，每年评审。"
    lines = ask("", [SourceText(1, text), SourceText(2, text)])
    assert sorted(lines) == sorted(
        ["本制度适用于公司的全体员工和外包人员。[1]", "制度由人事部负责解释和修订，每年评审。[1]"]
    )


def test_one_sentence_is_given_however_short_the_summary() -> None:
    assert len(ask("", max_characters=1)) == 1


def test_streaming_gives_the_same_text_in_pieces() -> None:
    model = ExtractiveReader(min_chance=0.0)
    chunks = list(model.stream("", question="年假有几天？", sources=SOURCES))
    whole: BaseMessageChunk = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    assert whole.text == model.invoke("", question="年假有几天？", sources=SOURCES).text
    assert sum(1 for chunk in chunks if chunk.text) == 3
    assert whole.response_metadata == {"model_name": "extractive", "finish_reason": "stop"}
    assert isinstance(whole, AIMessage)
    assert whole.usage_metadata is not None
    assert (whole.usage_metadata["input_tokens"], whole.usage_metadata["output_tokens"]) == (0, 0)


def test_async_gives_the_same() -> None:
    model = ExtractiveReader()
    answer = asyncio.run(model.ainvoke("", question="年假有几天？", sources=SOURCES))
    assert answer.text == model.invoke("", question="年假有几天？", sources=SOURCES).text
    assert answer.response_metadata["finish_reason"] == "stop"


def test_stop_words_end_the_answer() -> None:
    answer = ExtractiveReader().invoke("", question="年假由谁批准？", sources=SOURCES, stop=["负责人"])
    assert answer.text == "年假由部门"


def test_the_question_may_be_the_message() -> None:
    messages = [SystemMessage("你是一个乐于助人的助手。"), HumanMessage("年假由谁批准？")]
    assert ExtractiveReader().invoke(messages, sources=SOURCES).text.startswith("年假由部门负责人批准。[1]")


def test_as_a_plain_chat_model_it_reads_the_message() -> None:
    model = ExtractiveReader(max_sentences=1)
    text = "员工依法享受带薪年休假，每年十五天。\n出差住宿费每晚不超过五百元。"
    assert model.invoke(f"{text}\n住宿费每晚多少？").text == "出差住宿费每晚不超过五百元。[1]"
    assert model.invoke(text).text == "员工依法享受带薪年休假，每年十五天。[1]\n出差住宿费每晚不超过五百元。[1]"


def test_what_chains_may_ask_of_it() -> None:
    model = ExtractiveReader()
    assert isinstance(model, ReadsSources)
    assert not isinstance(model, CountsPrompts)
    assert model.get_num_tokens("你好") == 2
    assert "--model" in NOTICE.zh
    assert "--model" in NOTICE.en
    with pytest.raises(ValidationError):
        ExtractiveReader(temperature=0.5)  # type: ignore[call-arg]


def test_twenty_passages_are_read_in_no_time() -> None:
    generator = random.Random(1)
    characters = "".join(chr(0x4E00 + number) for number in range(600))
    sources = [
        SourceText(number, "".join("".join(generator.choices(characters, k=39)) + "。" for _ in range(10)))
        for number in range(1, 21)
    ]
    question = sources[7].text[3:30] + "是什么？"
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        ExtractiveReader().invoke("", question=question, sources=sources)
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 0.06  # 30 ms on an idle machine


def test_a_running_head_is_not_quoted_beside_the_answer() -> None:
    text = "禾观公司\tHG-G200网关用户手册\n网关的额定供电为直流12至24伏。\n网关的外壳是灰色的。"
    answer = ExtractiveReader().invoke("?", question="HG-G200网关的额定供电是多少？", sources=[SourceText(1, text)])
    assert answer.text.splitlines()[0] == "网关的额定供电为直流12至24伏。[1]"
    assert "用户手册" not in answer.text


def test_a_row_without_number_or_full_stop_is_quoted_where_it_is_the_answer() -> None:
    text = "姓名\t部门\n张予川\t研发部\n李若宁\t人事行政部"
    answer = ExtractiveReader().invoke("?", question="李若宁在哪个部门？", sources=[SourceText(1, text)])
    assert answer.text.splitlines()[0] == "李若宁\t人事行政部[1]"


def test_a_row_is_found_by_its_code_however_much_others_speak_of_the_subject() -> None:
    text = (
        "HG-G200网关出现故障时，应用会显示故障代码。\n请按故障代码处理HG-G200网关的故障。\nHG-G200网关的外壳防水。\n"
        "HG-G200网关装在墙上。\n代码\t含义\nE21\t模块无响应\nE22\t节点离线\nE23\t信道干扰"
    )
    answer = ExtractiveReader().invoke(
        "?", question="HG-G200网关的故障代码E22是什么故障？", sources=[SourceText(1, text)]
    )
    assert answer.text.splitlines()[0] == "E22\t节点离线[1]"
