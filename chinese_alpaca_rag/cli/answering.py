"""Showing what a chain does: the text as it is generated, then its citations and the receipt."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

from chinese_alpaca_rag.cli.output import Output
from chinese_alpaca_rag.cli.places import NamePage, named, shown_path
from chinese_alpaca_rag.cli.text import counted, one_line, shortened
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.settings import EXTRACTIVE

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from chinese_alpaca_rag.chains.events import Finished, Progress
    from chinese_alpaca_rag.chains.results import Answer, Citation, Receipt, Summary
    from chinese_alpaca_rag.cli.session import Session

QUOTE_COLUMNS = 120
#: A quote that stands in the answer itself needs only be recognised.
KNOWN_QUOTE_COLUMNS = 40
#: So many places that found no room are named; the JSON document names them all.
DROPPED_SHOWN = 5


def open_model(session: Session, *, keeping: bool) -> BaseChatModel:
    """The chat model that the settings name; for the extractive reader, a note that it only quotes.

    ``keeping``: whether what it reads is worth keeping on disk for another question.
    """
    settings = session.settings
    if settings.model == EXTRACTIVE:
        # Not by way of the factory, which knows checkpoints: this is the way that has to be quick.
        from chinese_alpaca_rag.llms.extractive import NOTICE, ExtractiveReader

        session.output.note(str(NOTICE), "dim")
        return ExtractiveReader()
    from chinese_alpaca_rag.llms.factory import chat_alpaca

    session.output.status(Words(zh="正在准备模型……", en="Preparing the model …").text())

    def loaded(done: float) -> None:
        session.output.status(Words(zh=f"正在加载模型 {done:.0%}", en=f"Loading the model: {done:.0%}").text())

    options = {
        "kv_type": settings.kv_type,
        "prefix_store": settings.prefix_folder if keeping and settings.prefixes else None,
    }
    return chat_alpaca(
        settings.model,
        window=settings.window,
        models_dir=settings.models,
        draft_model=settings.draft,
        on_progress=loaded,
        **{name: value for name, value in options.items() if value is not None},
    )


def close_model(model: BaseChatModel | None, output: Output) -> None:
    """Wait until what the model has read is kept for the next question, and say so if it could not be."""
    close, finish = getattr(model, "close", None), getattr(model, "finish_saving", None)
    if finish is not None:
        output.status(
            Words(zh="正在保存读过的内容，供下次使用……", en="Keeping what was read for the next time …").text()
        )
        problem = finish()
        if problem is not None:
            told = Words(zh=f"读过的内容没有全部保存：{problem.zh}", en=f"Not all that was read is kept: {problem.en}")
            output.complain(told.text(), "yellow")
    if close is not None:
        close()


def follow(events: Iterator[Any], output: Output) -> Finished[Any]:
    """Show the events of a chain as they come and return the last: the result."""
    from chinese_alpaca_rag.chains.events import Finished, PlanMade, Progress, Token

    last = None
    try:
        for event in events:
            match event:
                case PlanMade():
                    output.status(str(event.reason))
                case Progress():
                    output.status(_read_so_far(event))
                case Token() if not output.as_json:
                    output.write(event.text)
                case Finished():
                    last = event
    finally:
        # Stopped half-way, a generator has to stop the model as well.
        if isinstance(events, Generator):
            events.close()
    if last is None:
        raise RuntimeError("the chain ended without a result")
    return last


def show_result(output: Output, finished: Finished[Any], name_page: NamePage) -> None:
    """Everything below the text that was streamed: remarks, citations and receipt."""
    result: Answer | Summary = finished.result
    output.line()
    for remark in result.receipt.remarks:
        output.line(remark, "yellow")
    _show_citations(output, result, name_page)
    output.line()
    _show_dropped(output, result.receipt, name_page)
    output.line(" · ".join(_receipt_parts(result.receipt)), "dim")


def _read_so_far(event: Progress) -> str:
    return str(Words(zh=f"已读 {event.done}/{event.total} 部分", en=f"{event.done} of {event.total} parts read"))


def _show_citations(output: Output, result: Answer | Summary, name_page: NamePage) -> None:
    citations, text = result.citations, _text_of(result)
    if not citations:
        output.line(Words(zh="（没有引用）", en="(no citations)").text(), "dim")
        return
    output.line(Words(zh="引用", en="Citations").text(), "bold")
    path = ""
    for citation in citations:
        quote = shortened(one_line(citation.quote), KNOWN_QUOTE_COLUMNS if citation.quote in text else QUOTE_COLUMNS)
        mark, style = ("✓", "green") if citation.verified else ("✗", "red")
        output.line(f"[{citation.n}] {one_line(_where(citation, name_page))} · “{quote}” ", tail=(mark, style))
        if citation.source and citation.source != path:
            path = citation.source
            output.line(f"    {shown_path(path)}", "dim")


def _text_of(result: Answer | Summary) -> str:
    return result.answer if hasattr(result, "answer") else result.summary


def _where(citation: Citation, name_page: NamePage) -> str:
    if not citation.source:
        return str(Words(zh="没有这个编号的资料", en="no source of that number"))
    return named(name_page(citation.source, citation.page), citation.page)


def _show_dropped(output: Output, receipt: Receipt, name_page: NamePage) -> None:
    """Name what found no room in the window."""
    if not receipt.passages_dropped:
        return
    output.line(
        Words(
            zh=f"有 {receipt.passages_dropped} 个段落放不下，没有读：",
            en=f"No room was left for {counted(receipt.passages_dropped, 'passage')}, not read:",
        ).text(),
        "yellow",
    )
    for place in receipt.dropped[:DROPPED_SHOWN]:
        output.line(f"  {one_line(named(name_page(place.source, place.page), place.page))} {place.start}-{place.end}")
    more = len(receipt.dropped) - DROPPED_SHOWN
    if more > 0:
        output.line(Words(zh=f"  其余 {more} 处见 --json", en=f"  {more} more: see --json").text())


def _receipt_parts(receipt: Receipt) -> list[str]:
    parts = [receipt.model, receipt.strategy]
    if receipt.window is not None:
        parts += [
            Words(zh=f"窗口 {receipt.window:,}", en=f"window {receipt.window:,}").text(),
            Words(
                zh=f"读入 {receipt.prompt_tokens:,} 词元"
                f"（复用 {receipt.reused_tokens:,}，计算 {receipt.evaluated_tokens:,}）",
                en=f"{receipt.prompt_tokens:,} tokens in "
                f"({receipt.reused_tokens:,} reused, {receipt.evaluated_tokens:,} evaluated)",
            ).text(),
            Words(zh=f"写出 {receipt.output_tokens:,} 词元", en=f"{receipt.output_tokens:,} out").text(),
        ]
    parts += [
        _passages_read(receipt).text(),
        f"{Words(zh='首字', en='first')} {_seconds(receipt.seconds_to_first_token)}",
        f"{Words(zh='共', en='all')} {_seconds(receipt.seconds)}",
    ]
    return parts


def _passages_read(receipt: Receipt) -> Words:
    used, kept = receipt.passages_used, receipt.passages_kept
    zh, en = f"读了 {used} 个段落", f"{counted(used, 'passage')} read"
    if kept:
        zh, en = f"{zh}（{kept} 个是为了复用）", f"{en} ({kept} for reuse)"
    return Words(zh=zh, en=en)


def _seconds(seconds: float) -> str:
    if seconds < 1:
        return Words(zh=f"{seconds * 1000:.0f} 毫秒", en=f"{seconds * 1000:.0f} ms").text()
    return Words(zh=f"{seconds:.1f} 秒", en=f"{seconds:.1f} s").text()
