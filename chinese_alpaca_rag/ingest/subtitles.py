"""Subtitles (SubRip, WebVTT): a cue a line, with the time at which it begins."""

from __future__ import annotations

import html
import re

from chinese_alpaca_rag.ingest.cleaning import clean_page
from chinese_alpaca_rag.ingest.decoding import decode
from chinese_alpaca_rag.ingest.joining import join_lines
from chinese_alpaca_rag.ingest.refusals import damaged, without_text
from chinese_alpaca_rag.library.records import Page, ParsedDocument

_TIMES = re.compile(r"\s*((?:\d{1,3}:)?\d{1,2}:\d{2})[.,]\d{1,3}\s*-->\s*(?:\d{1,3}:)?\d{1,2}:\d{2}[.,]\d{1,3}.*")
_MARKUP = re.compile(r"</?(?:[biucv]|font|ruby|rt|lang)\b[^<>]*>|<\d[\d:.]*>|\{\\[^{}]*\}", re.IGNORECASE)


def read_subtitles(data: bytes, name: str, *, encoding: str | None = None) -> ParsedDocument:
    """A subtitle file as one page: ``[00:01:02] the words of the cue``, marks of format taken out.

    What stands before the first cue (titles, notes) comes first; numbers of cues are left out.
    """
    decoded = decode(data, encoding=encoding)
    before: list[str] = []
    cues: list[tuple[str, list[str]]] = []
    inside = False
    rows = clean_page(decoded.text).split("\n")
    for index, row in enumerate(rows):
        times = _TIMES.fullmatch(row)
        if times:
            cues.append((times.group(1), []))
            inside = True
        elif not row.strip():
            inside = False
        elif inside:
            cues[-1][1].append(html.unescape(_MARKUP.sub("", row)).strip())
        elif not (row.strip().isdecimal() and index + 1 < len(rows) and _TIMES.fullmatch(rows[index + 1])):
            before.append(row.removeprefix("WEBVTT").strip())
    if not cues:
        raise damaged("SRT")
    spoken = [f"[{time}] {_joined(words)}" for time, words in cues if any(words)]
    text = clean_page("\n".join([*filter(None, before), *spoken]))
    if not text.strip():
        raise without_text()
    return ParsedDocument(
        format="subtitles", title=name, pages=(Page(1, text),), encoding=decoded.encoding, confidence=decoded.confidence
    )


def _joined(words: list[str]) -> str:
    joined = ""
    for line in filter(None, words):
        joined = join_lines(joined, line) if joined else line
    return joined
