"""``alpaca-rag search``: the passages that words stand in."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from chinese_alpaca_rag.cli.output import Output
from chinese_alpaca_rag.cli.places import PageName, named, shown_path
from chinese_alpaca_rag.cli.retrieving import empty_library, opened_retriever, passage_count, readable
from chinese_alpaca_rag.cli.session import Session
from chinese_alpaca_rag.cli.text import counted, one_line
from chinese_alpaca_rag.errors import EmptyQuestionError, WrongUsageError
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.library.records import Passage
from chinese_alpaca_rag.library.scope import Scope
from chinese_alpaca_rag.library.search import holds_quote
from chinese_alpaca_rag.library.store import Library
from chinese_alpaca_rag.library.terms import quotes_in
from chinese_alpaca_rag.retrieval.highlights import highlights

# So many characters of a passage are shown, about what matched.
_SHOWN = 200
_ONE_DAY = timedelta(days=1)
_IN_JSON = ("source", "title", "page", "page_label", "page_kind", "heading", "start", "end", "text")


@dataclass(frozen=True)
class Part:
    """What part of the library is wanted, as it was typed."""

    within: Sequence[Path] = ()
    tags: Sequence[str] = ()
    pages: str | None = None
    since: str | None = None
    until: str | None = None


def search(session: Session, query: str, passages: str | None, part: Part) -> int:
    """Show the best passages for ``query``; none found is no failure."""
    count = passage_count(passages)
    scope = scope_of(part)
    wanted = readable(query)
    if not any(character.isalnum() for character in wanted):
        raise EmptyQuestionError(
            Words(zh="没有可找的：里面没有一个字。", en="There is nothing to look for: it holds no word."),
            hint=Words(zh="例如：alpaca-rag search 年假", en="For example: alpaca-rag search leave"),
        )
    with Library.open(session.settings.library, readonly=True) as library:
        if not library.passage_count():
            raise empty_library(session)
        check_within(library, scope)
        found = _found(session, library, wanted, count, scope)
    missing = [quote for quote in quotes_in(wanted) if not any(holds_quote(passage, quote) for passage, _ in found)]
    if session.output.as_json:
        shown = [_as_json(passage, score, wanted) for passage, score in found]
        session.output.document({"query": wanted, "passages": shown, "quotes_missing": missing})
    else:
        _show(session.output, found, wanted)
        for quote in missing if found else ():
            session.output.note(
                Words(
                    zh=f"没有一个段落一字不差地含有“{quote}”。", en=f"No passage holds “{quote}” to the letter."
                ).text()
            )
    return 0


def _found(session: Session, library: Library, query: str, k: int, scope: Scope) -> list[tuple[Passage, float]]:
    """Passages with their scores: those of full-text search unless the settings name models."""
    if session.settings.embedding is None and session.settings.reranker is None:
        return library.search(query, limit=k, scope=scope)
    documents = [one.metadata for one in opened_retriever(session, library, k, scope).invoke(query)]
    passages = {one.id: one for one in library.passages_by_id([each["passage_id"] for each in documents])}
    return [
        (passages[each["passage_id"]], float(each.get("rerank_score", each["score"])))
        for each in documents
        if each["passage_id"] in passages
    ]


def scope_of(part: Part) -> Scope:
    """``part`` as the library understands it; WrongUsageError for pages and dates that are none."""
    until = None if part.until is None else _day(part.until, "--until") + _ONE_DAY - timedelta(microseconds=1)
    return Scope(
        paths=tuple(str(path.expanduser().absolute()) for path in part.within) if part.within else None,
        tags=tuple(part.tags),
        pages=None if part.pages is None else _pages(part.pages),
        since=None if part.since is None else _day(part.since, "--since"),
        until=until,
    )


def check_within(library: Library, scope: Scope) -> None:
    """WrongUsageError for a path in ``scope`` that the library holds nothing of."""
    for path in scope.paths or ():
        if not library.passage_ids(Scope((path,))):
            raise _unknown(path)


def _pages(given: str) -> tuple[int, int]:
    match = re.fullmatch(r"\s*(\d{1,9})\s*(?:[-–~]\s*(\d{1,9})\s*)?", given, re.ASCII)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 1 <= first <= last:
        raise WrongUsageError(
            Words(zh=f"--pages 不能是 {given!r}。", en=f"--pages cannot be {given!r}."),
            hint=Words(
                zh="请给一页或一段，例如 --pages 3 或 --pages 3-5", en="Give a page or a range: --pages 3, or 3-5"
            ),
        )
    return first, last


def _day(given: str, option: str) -> datetime:
    try:
        return datetime.strptime(given.strip(), "%Y-%m-%d").astimezone()
    except (ValueError, OverflowError, OSError):
        raise WrongUsageError(
            Words(zh=f"{option} 不能是 {given!r}。", en=f"{option} cannot be {given!r}."),
            hint=Words(zh=f"请写成年-月-日，例如 {option} 2025-01-31", en=f"Give year-month-day: {option} 2025-01-31"),
        ) from None


def _unknown(path: str) -> WrongUsageError:
    place = shown_path(path)
    return WrongUsageError(
        Words(
            zh=f"知识库里没有 {place}，也没有它下面的文件。",
            en=f"The library holds neither {place} nor files below it.",
        ),
        hint=Words(
            zh="用 alpaca-rag sources 查看有哪些文件。", en="See which files there are with: alpaca-rag sources"
        ),
    )


def _as_json(passage: Passage, score: float, query: str) -> dict[str, Any]:
    values = asdict(passage)
    return {
        **{name: values[name] for name in _IN_JSON},
        "score": score,
        "highlights": [list(span) for span in highlights(passage.text, query)],
    }


def _show(output: Output, found: Sequence[tuple[Passage, float]], query: str) -> None:
    for number, (passage, score) in enumerate(found, start=1):
        place = named(PageName(passage.title, passage.page_kind, passage.page_label), passage.page)
        heading = f" · {passage.heading}" if passage.heading else ""
        output.line(one_line(f"{number}. {place}{heading}"), "bold", tail=(f"  {score:.2f}", "dim"))
        _show_text(output, one_line(passage.text), query)
        output.line(f"   {shown_path(passage.source)}", "dim")
    files = len({passage.source for passage, _ in found})
    output.note(
        Words(
            zh=f"{len(found)} 个段落，来自 {files} 个文件" if found else "没有找到。换几个字词试试。",
            en=f"{counted(len(found), 'passage')} of {counted(files, 'file')}"
            if found
            else "Nothing found. Try other words.",
        ).text(),
        "dim",
    )


def _show_text(output: Output, text: str, query: str) -> None:
    """The part of a passage where most of the query stands, the matches set off."""
    from rich.text import Text

    spans = highlights(text, query)
    start = _best_start(text, spans)
    shown = Text("   " + ("…" if start else ""))
    body = Text(text[start : start + _SHOWN])
    for first, last in spans:
        if start <= first < start + _SHOWN:
            body.stylize("bold yellow", first - start, min(last - start, _SHOWN))
    shown.append_text(body)
    if start + _SHOWN < len(text):
        shown.append("…")
    output.console().print(shown, soft_wrap=True)


def _best_start(text: str, spans: Sequence[tuple[int, int]]) -> int:
    if len(text) <= _SHOWN:
        return 0

    def covered(start: int) -> int:
        return sum(last - first for first, last in spans if start <= first and last <= start + _SHOWN)

    starts = [max(0, min(first - 20, len(text) - _SHOWN)) for first, _ in spans]
    return max([0, *starts], key=lambda start: (covered(start), -start))
