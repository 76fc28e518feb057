"""Which of the titles that a file states of itself are worth showing."""

from __future__ import annotations

import re

from chinese_alpaca_rag.ingest.cleaning import visible

# What programs write when nobody gave a title: their own name, a file's name, "untitled".
_USELESS = re.compile(
    r"untitled|无标题|^microsoft (word|powerpoint|excel)\b|\.(docx?|wps|pptx?|xlsx?|indd|tex|dvi|pdf|qxd|rtf)$"
    r"|^(文档|(powerpoint )?演示文稿|幻灯片|工作簿|(word )?document|(powerpoint )?presentation|slide|title|book)\s*\d*$"
    r"|[\ufffd\ue000-\uf8ff]",
    re.IGNORECASE,
)
_LONGEST = 200


def own_title(*candidates: str | None) -> str:
    """The first of ``candidates`` that is a title, on one line; "" when none is."""
    for candidate in candidates:
        title = " ".join(visible(candidate or "").split())
        if title and len(title) <= _LONGEST and not _USELESS.search(title):
            return title
    return ""
