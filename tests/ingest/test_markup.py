from __future__ import annotations

import pytest

from chinese_alpaca_rag.errors import DocumentRefusedError
from chinese_alpaca_rag.ingest.markup import read_html


def text_of(markup: str, *, codec: str = "utf-8") -> str:
    return read_html(markup.encode(codec), "page").pages[0].text


def test_blocks_headings_and_lists() -> None:
    text = text_of(
        "<h1>员工<b>手册</b></h1><p>第一段\n接着的字。</p><p>Use the\n  <b>OA</b> system.</p>直接文字<br>换行"
        "<ul><li>苹果</li><li><p>香蕉</p></li><li></li></ul><h3>附则</h3>"
    )
    assert text.split("\n") == [
        "# 员工手册",
        "",
        "第一段接着的字。",
        "",
        "Use the OA system.",
        "",
        "直接文字",
        "换行",
        "- 苹果",
        "- 香蕉",
        "",
        "### 附则",
    ]


@pytest.mark.parametrize(
    "hidden",
    [
        "<script>秘密()</script>",
        "<style>.秘密{}</style>",
        "<p hidden>秘密</p>",
        '<p style="color:red; display : none">秘密</p>',
        '<div style="visibility:hidden"><p>秘密</p></div>',
        '<span style="font-size:0px">秘密</span>',
        "<template><p>秘密</p></template>",
        "<!-- 秘密 -->",
        "<noscript>秘密</noscript>",
        "<p>公\u200b开\U000e0041\U000e0042</p><p hidden='until-found'>秘密</p>",
    ],
)
def test_what_nobody_sees_is_left_out(hidden: str) -> None:
    text = text_of(f"<p>前文。</p>{hidden}<p>后文。</p>")
    assert "秘密" not in text
    assert "\u200b" not in text
    assert "\U000e0041" not in text
    assert text.startswith("前文。")
    assert text.endswith("后文。")


def test_a_table_with_a_header_names_each_cell_and_repeats_what_spans_rows() -> None:
    text = text_of(
        "<table><thead><tr><th>城市</th><th>项目</th><th>标准</th></tr></thead>"
        "<tr><td rowspan=2>北京</td><td>住宿</td><td>600</td></tr><tr><td>餐费</td><td>100</td></tr></table>"
    )
    assert text.split("\n") == [
        "城市 | 项目 | 标准",
        "城市：北京 | 项目：住宿 | 标准：600",
        "城市：北京 | 项目：餐费 | 标准：100",
    ]


def test_a_form_is_no_table_with_a_header() -> None:
    text = text_of(
        "<table><tr><td>姓名</td><td>张三</td><td>性别</td><td>男</td></tr>"
        "<tr><td>部门</td><td>销售部</td><td>电话</td><td>13800000000</td></tr></table>"
    )
    assert text == "姓名 | 张三 | 性别 | 男\n部门 | 销售部 | 电话 | 13800000000"


def test_a_table_that_arranges_the_page_is_read_through() -> None:
    text = text_of(
        "<table><tr><td><h2>左栏</h2><p>内容。</p></td><td><table><tr><th>年</th><th>额</th></tr>"
        "<tr><td>2023</td><td>5</td></tr></table></td></tr></table>"
    )
    assert "## 左栏" in text
    assert "年：2023 | 额：5" in text


def test_preformatted_text_keeps_its_spaces() -> None:
    assert "a  b\n  c" in text_of("<pre>\na  b\n  c</pre>")


@pytest.mark.parametrize(
    ("head", "codec"),
    [
        ('<meta charset="gb2312">', "gb18030"),
        ('<meta http-equiv="Content-Type" content="text/html; charset=big5">', "big5"),
        ('<meta charset="utf-8">', "gbk"),
        ('<meta charset="gb2312">', "utf-8"),
        ("", "gb18030"),
    ],
)
def test_the_declared_encoding_is_checked_against_the_bytes(head: str, codec: str) -> None:
    body = (
        "員工請假須填寫申請單，並經主管核准後始生效。"
        if codec == "big5"
        else "员工请假须填写申请单，经主管批准后生效。"
    )
    document = read_html(f"<html><head>{head}<title>请假</title></head><p>{body}</p>".encode(codec, "replace"), "x")
    assert document.pages[0].text == body


def test_the_title() -> None:
    assert read_html(b"<title> A \n B </title><p>x</p>", "name").title == "A B"
    assert read_html(b"<h2>Heading</h2><p>x</p>", "name").title == "Heading"
    assert read_html(b"<p>x</p>", "name").title == "name"


@pytest.mark.parametrize(
    "markup",
    ["<div>" * 100_000 + "深" + "</div>" * 100_000, "<table><tr><td>" * 3_000 + "深", "<ul><li>" * 20_000 + "深"],
    ids=["div", "table", "list"],
)
def test_deep_nesting_is_read(markup: str) -> None:
    assert "深" in text_of(markup)


def test_a_page_without_text_is_refused() -> None:
    with pytest.raises(DocumentRefusedError):
        text_of("<html><body><script>1</script></body></html>")


@pytest.mark.parametrize(
    "page",
    [
        "<p hidden>藏着</p>",
        "<p style='display:none'>藏着</p>",
        "<style>.x{display:none}</style><p class=x>藏着</p>",
        "<style>/* a */ .y, #x { color: red; visibility: hidden }</style><p id=x>藏着</p>",
        "<style>@media screen { div.x { display : none !important } }</style><div class='a x'><b>藏着</b></div>",
        "<p style='color:#fff'>藏着</p>",
        "<style>.w{color:white}</style><span class=w>藏着</span>",
        "<p style='font-size:0'>藏着</p>",
        "<table><tr><td>甲</td><td style='display:none'>藏着</td></tr><tr><td>乙</td><td>丙</td></tr></table>",
    ],
)
def test_hidden_text_is_left_out_and_told(page: str) -> None:
    document = read_html(f"<html><body>看得见{page}</body></html>".encode(), "x")
    assert "藏着" not in document.pages[0].text
    assert "看得见" in document.pages[0].text
    assert "2" in document.hidden


@pytest.mark.parametrize(
    "page",
    [
        "<style>.x:hover{display:none}</style><p class=x>看得见</p>",
        "<style>@media print { .x { display:none } }</style><p class=x>看得见</p>",
        "<style>.x{display:none} .x{display:block}</style><p class=x>看得见</p>",
        "<style>.x{display:none}</style><p class=x style='display:block'>看得见</p>",
        "<div style='background:#003366'><p style='color:#fff'>看得见</p></div>",
        "<style>.bar{background-color:navy}</style><div class=bar><p style='color:white'>看得见</p></div>",
        "<table bgcolor=navy><tr><td style='color:white'>看得见</td></tr></table>",
        "<style>p{color:red} broken{{{ .x{display:</style><p class=x>看得见</p>",
    ],
)
def test_what_is_seen_after_all_is_kept(page: str) -> None:
    document = read_html(f"<html><body>{page}</body></html>".encode(), "x")
    assert document.pages[0].text.strip() == "看得见"
    assert document.hidden == ""


def test_characters_that_carry_something_past_the_eye_are_told() -> None:
    tags = "".join(chr(0xE0000 + ord(letter)) for letter in "ignore")
    document = read_html(f"<p>看得见{tags}</p>".encode(), "x")
    assert document.pages[0].text == "看得见"
    assert "6" in document.hidden
    assert read_html("<p>长\u200b长\u200b的词 🏴\U000e0067\U000e0062\U000e007f</p>".encode(), "x").hidden == ""


def test_a_page_of_many_styles_ends_soon() -> None:
    sheet = "".join(f".c{number} .d{number} {{ display: none }}" for number in range(20_000))
    body = "".join(f"<p class=c{number}>段落{number}</p>" for number in range(2_000))
    assert "段落1999" in read_html(f"<style>{sheet}</style>{body}".encode(), "x").pages[0].text
