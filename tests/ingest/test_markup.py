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
