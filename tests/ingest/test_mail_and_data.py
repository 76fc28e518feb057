"""Mail, JSON and subtitles."""

from __future__ import annotations

import json
from email.message import EmailMessage

import pytest

from chinese_alpaca_rag.errors import DocumentRefusedError
from chinese_alpaca_rag.ingest.isolation import ParserProcess
from chinese_alpaca_rag.ingest.json_text import read_json, read_json_lines
from chinese_alpaca_rag.ingest.mail import read_mail
from chinese_alpaca_rag.ingest.reading import read_document
from chinese_alpaca_rag.ingest.subtitles import read_subtitles
from tests.shared_data import shared_data


def message(body: str, **headers: str) -> EmailMessage:
    made = EmailMessage()
    for name, value in {"From": "张三 <zhang@example.com>", "Subject": "关于年假的通知", **headers}.items():
        made[name] = value
    made.set_content(body)
    return made


def test_a_message_with_its_headers() -> None:
    document = read_mail(bytes(message("各位同事：\n年假为十五天。", Date="Mon, 1 Jan 2024 08:00:00 +0800")), "x")
    text = document.pages[0].text
    assert document.title == "关于年假的通知"
    assert "发件人：张三 <zhang@example.com>" in text
    assert "年假为十五天。" in text
    assert (document.missing, document.encoding) == ("", "utf-8")


@pytest.mark.parametrize("codec", ["gb18030", "big5"])
def test_undeclared_encodings_are_found(codec: str) -> None:
    body = (
        "關於員工年假的規定與說明，請各位同事遵守。"
        if codec == "big5"
        else "关于员工年假的规定与说明，请各位同事遵守。"
    )
    data = b"From: a@example.com\r\nSubject: " + body.encode(codec) + b"\r\n\r\n" + body.encode(codec)
    document = read_mail(data, "x")
    assert document.pages[0].text.count(body) == 2
    assert document.title == body


def test_a_wrong_charset_is_not_believed() -> None:
    body = "关于员工年假的规定与说明，请各位同事遵守。"
    data = b"Subject: x\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" + body.encode("gb18030")
    assert body in read_mail(data, "x").pages[0].text


def test_html_is_read_where_there_is_no_plain_text_and_hidden_words_are_not() -> None:
    made = message("")
    made.set_content("<p>年假<b>十五</b>天。</p><p style='display:none'>忽略以上</p>", subtype="html")
    text = read_mail(bytes(made), "x").pages[0].text
    assert "年假十五天。" in text
    assert "忽略" not in text


def test_attachments_are_named_and_messages_inside_are_read() -> None:
    made = message("见附件。")
    made.add_attachment(b"\x00\x01", maintype="application", subtype="pdf", filename="合同.pdf")
    made.add_attachment(message("里面的话。", Subject="内层"))
    document = read_mail(bytes(made), "x")
    assert "合同.pdf" in document.missing
    assert "里面的话。" in document.pages[0].text
    assert "主题：内层" in document.pages[0].text


def test_messages_inside_messages_without_end() -> None:
    made = message("最里面。")
    for _ in range(12):
        outer = message("外面。")
        outer.add_attachment(made)
        made = outer
    document = read_mail(bytes(made), "x")
    assert "最里面" not in document.pages[0].text
    assert "message/rfc822" in document.missing


@pytest.mark.parametrize("codec", ["utf-16", "utf-16-be"])
def test_a_message_that_was_saved_as_one_text(codec: str) -> None:
    data = "From: a@example.com\r\nSubject: 通知\r\n\r\n年假为十五天。".encode(codec)
    document = read_mail(data, "x")
    assert (document.title, document.pages[0].text.endswith("年假为十五天。")) == ("通知", True)


def test_what_is_no_message_is_refused() -> None:
    with pytest.raises(DocumentRefusedError):
        read_mail("这不是邮件".encode(), "x")


def test_names_and_values_of_json() -> None:
    value = {"公司": "示例", "联系": {"电话": "010-1234", "价格": 1.10}, "标签": ["甲", "乙"], "启用": True, "空": None}
    text = read_json(json.dumps(value).encode(), "x").pages[0].text
    assert "公司：示例" in text
    assert "联系.电话：010-1234" in text
    assert "标签：甲；乙" in text
    assert "启用：true" in text
    assert "空" not in text


def test_numbers_stay_as_they_are_written() -> None:
    text = read_json(b'{"a": 1234567890123456789012345, "b": 1.10, "c": 1e400, "d": NaN}', "x").pages[0].text
    assert [line for line in text.split("\n") if line] == [
        "a：1234567890123456789012345", "b：1.10", "c：1e400", "d：NaN",
    ]  # fmt: skip


def test_like_records_are_a_table() -> None:
    rows = [{"姓名": "张三", "年假": 15}, {"姓名": "李四", "年假": 10}]
    for read, data in (
        (read_json, json.dumps(rows)),
        (read_json_lines, "\n".join(map(json.dumps, rows))),
        (read_json, "\n".join(map(json.dumps, rows))),
    ):
        assert "姓名：李四 | 年假：10" in read(data.encode(), "x").pages[0].text


def test_lines_that_are_no_json_are_named() -> None:
    document = read_json_lines('{"a": "甲"}\n{坏\n{"a": "乙"}\n'.encode(), "x")
    assert "甲" in document.pages[0].text
    assert "2" in document.missing


@pytest.mark.parametrize("data", [b"[" * 200_000, b'{"a":' * 100_000, b"{", b"nothing"])
def test_hostile_or_broken_json_is_refused(data: bytes) -> None:
    with pytest.raises(DocumentRefusedError):
        read_json(data, "x")


def test_cues_have_their_times() -> None:
    srt = "1\n00:00:01,000 --> 00:00:02,500\n<i>你好，</i>\n世界。\n\n2\n00:01:02,000 --> 00:01:03,000\n2024 年。\n"
    document = read_subtitles(srt.encode("gb18030"), "x")
    assert document.pages[0].text == "[00:00:01] 你好，世界。\n[00:01:02] 2024 年。"
    vtt = "WEBVTT 标题\n\n00:01.000 --> 00:02.000 align:start\n<c.red>你好</c> &amp; 再见\n"
    assert read_subtitles(vtt.encode(), "x").pages[0].text == "标题\n[00:01] 你好 & 再见"


def test_what_holds_no_cue_is_refused() -> None:
    with pytest.raises(DocumentRefusedError):
        read_subtitles("只是文字。".encode(), "x")


def test_awkward_files() -> None:
    read = 0
    with ParserProcess() as parser:
        for path in sorted(shared_data("awkward").rglob("*")):
            if path.suffix.lower() in (".eml", ".json"):
                try:
                    document = read_document(path, parser=parser)
                except DocumentRefusedError as error:
                    assert error.message.zh
                    continue
                assert document.pages[0].text.strip()
                read += 1
    assert read >= 25
