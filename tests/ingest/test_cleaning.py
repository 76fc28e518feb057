from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chinese_alpaca_rag.ingest import cleaning
from chinese_alpaca_rag.ingest.cleaning import clean_page, cleaned, visible
from chinese_alpaca_rag.ingest.joining import collapse_spaces, join_lines
from chinese_alpaca_rag.ingest.plain_text import read_csv, read_markdown, read_text
from chinese_alpaca_rag.ingest.unwrapping import unwrap

# A flag that is spelt in tag characters.
ENGLAND = "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("密\u200b码\u2060", "密码"),
        ("忽略\U000e0069\U000e0067以上", "忽略以上"),
        ("英\u200d国", "英国"),
        ("👩\u200d💻写代码", "👩\u200d💻写代码"),
        (ENGLAND + "旗", ENGLAND + "旗"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("甲\r\n乙\r丙\u2028丁", "甲\n乙\n丙\n丁"),
        ("\ufeff开头\x1a", "开头"),
        ("a\ud800b", "a\ufffdb"),
        ("❤\ufe0f", "❤\ufe0f"),
    ],
)
def test_only_the_invisible_goes(text: str, expected: str) -> None:
    assert visible(text) == expected


def test_a_page_has_no_loose_white_space() -> None:
    assert clean_page("\n\n甲  \n\n\n\n乙\u3000\n") == "甲\n\n乙"


@given(st.text())
def test_cleaning_twice_changes_nothing_more(text: str) -> None:
    once = clean_page(text)
    assert clean_page(once) == once


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("中文段落在这里", "折行", "中文段落在这里折行"),
        ("an English", "line", "an English line"),
        ("exam-", "ple", "example"),
        ("Anglo-", "Saxon", "Anglo-Saxon"),
        ("2024", "年", "2024年"),
        ("使用", "Python", "使用 Python"),
        ("版本，", "Python", "版本，Python"),
        ("A-", "1", "A- 1"),
    ],
)
def test_lines_are_joined_as_their_language_asks(first: str, second: str, expected: str) -> None:
    assert join_lines(first, second) == expected


def test_spaces_collapse() -> None:
    assert collapse_spaces("  出差\n  应当 提前\nask the\n boss ") == "出差应当 提前 ask the boss"


BROKEN = """　　公司实行标准工时制度，员工每日工作八小时，每周工作四十小时，具体时间为上午九
点至十二点，下午一点至六点，各部门可以根据业务需要提出调整申请，经人力资源部批
准后执行，并在公告栏公布，未经批准擅自调整工作时间的，按照违反考勤制度的规定处
理。
　　员工因工作需要加班的，应当事先填写加班申请单，由部门负责人审批后报送人力资源
部备案，平日加班的可以安排调休，法定节假日加班的按照国家规定支付加班工资，任何
部门不得以任何理由拖欠或者克扣。"""


def test_broken_paragraphs_are_put_together() -> None:
    paragraphs = unwrap(BROKEN).split("\n")
    assert len(paragraphs) == 2
    assert "上午九点至十二点" in paragraphs[0]
    assert paragraphs[0].endswith("处理。")


def test_broken_english_is_put_together() -> None:
    text = (
        "The committee met on Monday to discuss the budget for the coming year and\n"
        "agreed that the spending on travel should be reduced by ten percent, while\n"
        "the spending on training should be kept at the level of the previous year\n"
        "until the results of the review are known. The members also discussed the\n"
        "plan for the new building, which is expected to be finished by the end of\n"
        "the summer, and asked the architect to present the drawings at the meeting\n"
        "in June so that a decision can be made before the holidays begin, as it was\n"
        "promised to the residents.\n"
    )
    assert "\n" not in unwrap(text).strip()


@pytest.mark.parametrize(
    "text",
    [
        "床前明月光，\n疑是地上霜。\n举头望明月，\n低头思故乡。\n白日依山尽，\n黄河入海流。\n欲穷千里目，\n更上一层楼。",
        "\n".join(
            f"姓名：员工{number:03d}号，部门：销售部，职务：客户经理，工号：{number:06d}" for number in range(20)
        ),
        "\n".join("这是一个完整的段落，每个段落都占一行，长度差不多，而且都有四十个字左右才对。" for _ in range(20)),
        "\n".join(f"- 第{number}项内容写在这里，这一项的文字很长很长很长很长很长很长" for number in range(20)),
    ],
    ids=["verse", "records", "paragraphs", "list"],
)
def test_what_is_not_broken_stays(text: str) -> None:
    assert unwrap(text) == text


def test_plain_text() -> None:
    document = read_text("第一行\r\n第二行".encode("gb18030"), "名字")
    assert (document.format, document.title, document.encoding) == ("text", "名字", "gb18030")
    assert document.pages[0].text == "第一行\n第二行"


def test_a_cut_file_says_what_is_missing() -> None:
    text = "公司规定员工每年享有五天带薪年休假，工作满十年的增加到十天。" * 3
    document = read_text(text.encode("gb18030")[:-1], "x")
    assert document.pages[0].text == text[:-1]
    assert document.missing


def test_markdown_keeps_its_source() -> None:
    source = "# 产品 **手册**\n\n| 型号 | 价格 |\n|---|---|\n| A1 | 100 |\n\n<!-- 草稿 -->\n结束。"
    document = read_markdown(source.encode(), "x")
    assert document.title == "产品 手册"
    assert "| A1 | 100 |" in document.pages[0].text
    assert "草稿" not in document.pages[0].text


def test_the_title_of_front_matter() -> None:
    assert read_markdown("---\ntitle: '周报'\n---\n正文".encode(), "x").title == "周报"


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
def test_separated_values(delimiter: str) -> None:
    data = f'姓名{delimiter}年假\r\n张三{delimiter}15\r\n"李,四"{delimiter}5\r\n'.encode("gb18030")
    lines = read_csv(data, "x").pages[0].text.split("\n")
    assert lines == ["姓名 | 年假", "姓名：张三 | 年假：15", "姓名：李,四 | 年假：5"]


def test_no_character_that_is_taken_out_is_overlooked() -> None:
    """The scan that lets most texts through knows every character that the rest looks for."""
    for code in (*range(0x3000), *range(0xD7A0, 0x10000), *range(0xE0000, 0xE0200)):
        text = f"甲{chr(code)}乙"
        if cleaning._SUSPECT.search(text) is None:
            rest = cleaning._TAGS.sub("", cleaning._INVISIBLE.sub("", cleaning._NEWLINES.sub("\n", text)))
            assert cleaning._SURROGATES.sub("\ufffd", cleaning._JOINERS.sub("", rest)) == text, hex(code)


ODD = st.text(
    st.one_of(
        st.characters(),
        st.sampled_from("ﬁﬀ⼀⽇豈\u200b\ufeff\r\n\t \u3000\x00\U000e0041\U0001f3f4\u200d\ud800"),
        st.sampled_from("年假abc\n"),
    ),
    max_size=60,
)


@given(ODD)
def test_a_cleaned_text_knows_where_its_characters_stood(text: str) -> None:
    tracked = cleaned(text)
    assert tracked.text == clean_page(text)
    spans = [tracked.original_span(place, place + 1) for place in range(len(tracked.text))]
    assert spans == sorted(spans)
    for character, (start, end) in zip(tracked.text, spans, strict=True):
        assert 0 <= start < end <= len(text)
        original = text[start:end]
        known = original == character or character in unicodedata.normalize("NFKC", original)
        assert known or ((character in "\n\ufffd" and not original.strip()) or "\ud800" <= original <= "\udfff"), (
            character,
            original,
        )
    covered = {place for start, end in spans for place in range(start, end)}
    lost = [text[place] for place in range(len(text)) if place not in covered]
    assert all(
        character.isspace()
        or visible(f"甲{character}乙") != f"甲{character}乙"
        or character in "\U0001f3f4\u200c\u200d"
        for character in lost
    )


def test_stretches_map_to_stretches() -> None:
    original = "\ufeff第\u200b一 ﬁne\r\n\r\n\r\n\r\n二  \n"
    tracked = cleaned(original)
    assert tracked.text == "第一 fine\n\n二"
    start = tracked.text.index("fine")
    assert original[slice(*tracked.original_span(start, start + 4))] == "ﬁne"
    assert original[slice(*tracked.original_span(0, 2))] == "第\u200b一"
    assert original[slice(*tracked.original_span(len(tracked.text) - 1, len(tracked.text)))] == "二"
    assert tracked.original_span(0, 0) == (1, 1)
    with pytest.raises(ValueError, match="no such place"):
        tracked.original_span(0, 99)
