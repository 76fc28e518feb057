"""``alpaca-rag evaluate retrieval``: recall@k and MRR on the user's own questions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langchain_core.documents import Document
from langchain_core.runnables import Runnable

from chinese_alpaca_rag.cli.output import Output
from chinese_alpaca_rag.cli.places import named, pages_of_documents
from chinese_alpaca_rag.cli.question_files import read_text, shown_name
from chinese_alpaca_rag.cli.retrieving import embed_missing, empty_library, opened_retriever
from chinese_alpaca_rag.cli.search import Part, check_within, scope_of
from chinese_alpaca_rag.cli.session import Session
from chinese_alpaca_rag.cli.text import counted, one_line, shortened
from chinese_alpaca_rag.errors import WrongUsageError
from chinese_alpaca_rag.evaluation.contexts import contexts_of, judged_by_context, library_of
from chinese_alpaca_rag.evaluation.matching import absent
from chinese_alpaca_rag.evaluation.questions import JudgedQuestion, judged_questions
from chinese_alpaca_rag.evaluation.retrieval import Outcome, RetrievalReport, judge
from chinese_alpaca_rag.ingest.pipeline import FileOutcome
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.library.scope import Scope
from chinese_alpaca_rag.library.store import Library

DEFAULT_DEPTHS = (1, 5, 10)
LONGEST_FILE = 64 << 20  # bytes; the largest public sets in SQuAD's layout have about 50 MB
_DEEPEST = 10_000
_MISSED_SHOWN = 10
_SHOWN_COLUMNS = 72


@dataclass(frozen=True)
class _Searched:
    """What is searched: an open library, the part of it that is wanted, and the questions that fit it."""

    library: Library
    scope: Scope
    questions: tuple[JudgedQuestion, ...]
    refused: tuple[FileOutcome, ...] = ()


def evaluate_retrieval(session: Session, file: Path, k: str | None, part: Part, *, contexts: bool) -> int:
    """Ask the questions of ``file`` and show how often and how far up a right passage was found.

    ``contexts`` searches a library made of the file's own texts. A low score is no failure.
    """
    depths, scope = _depths(k), scope_of(part)
    if contexts:
        _refuse_another_library(session, part)
    text = read_text(file, session.output, hint=_A_FILE, longest=LONGEST_FILE)
    questions = judged_questions(text, name=shown_name(file))
    if contexts and not contexts_of(questions):
        raise _no_contexts(file)
    with _of_contexts(session, questions) if contexts else _of_library(session, scope, questions) as searched:
        report = _judge(session, searched, depths)
        away = absent(searched.questions, _paths(searched))
    if session.output.as_json:
        session.output.document(_as_json(report, away, searched.refused))
    else:
        _show(session.output, report)
        _show_notes(session.output, report, away, searched.refused)
        if not contexts and not any(outcome.rank for outcome in report.outcomes) and contexts_of(questions):
            session.output.note(_TRY_CONTEXTS.text())
    return 0


# What is searched


@contextmanager
def _of_library(session: Session, scope: Scope, questions: tuple[JudgedQuestion, ...]) -> Iterator[_Searched]:
    with Library.open(session.settings.library, readonly=True) as library:
        if not library.passage_count():
            raise empty_library(session)
        check_within(library, scope)
        yield _Searched(library, scope, questions)


@contextmanager
def _of_contexts(session: Session, questions: tuple[JudgedQuestion, ...]) -> Iterator[_Searched]:
    refused: list[FileOutcome] = []

    def read(outcome: FileOutcome, number: int, total: int) -> None:
        if outcome.status == "refused":
            refused.append(outcome)
        session.output.status(Words(zh=f"读入原文 {number}/{total}……", en=f"{number} of {total} texts read …").text())

    with library_of(contexts_of(questions), on_outcome=read) as library:
        yield _Searched(library, Scope(), judged_by_context(questions), tuple(refused))


def _retriever(session: Session, searched: _Searched, depth: int) -> Runnable[str, list[Document]]:
    """The retriever that is measured: the one of ``ask``."""
    if not searched.library.readonly:  # made for this, and not embedded yet
        embed_missing(session, searched.library)
    return opened_retriever(session, searched.library, depth, searched.scope)


def _judge(session: Session, searched: _Searched, depths: Sequence[int]) -> RetrievalReport:
    def asked(number: int, total: int) -> None:
        session.output.status(Words(zh=f"已问 {number}/{total} 个问题……", en=f"{number} of {total} questions …").text())

    copies: dict[str, list[str]] = {}
    for copy in searched.library.copies():
        copies.setdefault(copy.file.path, []).append(copy.path)
    retriever = _retriever(session, searched, max(depths))
    return judge(searched.questions, retriever, k=depths, copies=copies, on_question=asked)


def _paths(searched: _Searched) -> list[str]:
    """The paths of the files that are searched, and of those with the same bytes."""
    ids = searched.library.passage_ids(searched.scope)
    records = searched.library.files()
    if not searched.scope.is_everything:
        within = {passage.source for passage in searched.library.passages_by_id(sorted(ids))}
        records = [record for record in records if record.path in within]
    return [path for record in records for path in (record.path, *record.copies)]


# What was typed

_A_FILE = Words(
    zh="这里要一个文件，里面是知道答案或出处的问题；alpaca-rag evaluate retrieval --help 说明格式。",
    en="A file of questions with their answers or sources is wanted; alpaca-rag evaluate retrieval --help says how.",
)
_TRY_CONTEXTS = Words(
    zh="一个也没有找到：文件里的原文（context）在知识库里吗？加上 --contexts 会用它们临时建一个知识库。",
    en="None was found: are the texts in the file (context) in the library? --contexts makes one of them for a while.",
)


def _depths(given: str | None) -> tuple[int, ...]:
    """The numbers of ``--k``; WrongUsageError for what are none."""
    if given is None:
        return DEFAULT_DEPTHS
    pieces = [piece.strip() for piece in given.replace("，", ",").split(",")]
    if not all(
        piece.isascii() and piece.isdigit() and len(piece) <= 5 and 0 < int(piece) <= _DEEPEST for piece in pieces
    ):
        raise WrongUsageError(
            Words(zh=f"--k 不能是 {given!r}。", en=f"--k cannot be {given!r}."),
            hint=Words(
                zh=f"请给从 1 到 {_DEEPEST} 的整数，用逗号隔开，例如 --k 1,5,10",
                en=f"Give whole numbers from 1 to {_DEEPEST}, with commas between them, such as --k 1,5,10",
            ),
        )
    return tuple(sorted({int(piece) for piece in pieces}))


def _refuse_another_library(session: Session, part: Part) -> None:
    options = [
        name
        for name, given in (
            ("--in", part.within),
            ("--tag", part.tags),
            ("--library", session.settings.origins.get("library") == "--library"),
        )
        if given
    ]
    if options:
        raise WrongUsageError(
            Words(
                zh=f"--contexts 不用知识库，不能与 {options[0]} 同用。",
                en=f"--contexts uses no library of yours and cannot go with {options[0]}.",
            ),
            hint=Words(zh="两者去掉一个。", en="Leave one of them out."),
        )


def _no_contexts(file: Path) -> WrongUsageError:
    name = shown_name(file)
    return WrongUsageError(
        Words(zh=f"{name} 里没有原文（context）。", en=f"{name} holds no text that questions are about (context)."),
        hint=Words(
            zh="去掉 --contexts，用自己的知识库；或用 SQuAD 格式的文件。",
            en="Leave --contexts out and use your library, or give a file in SQuAD's layout.",
        ),
    )


# What is shown


def _as_json(report: RetrievalReport, away: Sequence[JudgedQuestion], refused: Sequence[FileOutcome]) -> dict[str, Any]:
    return report.to_json() | {
        "not_in_library": [question.number for question in away],
        "refused": [str(outcome.reason) for outcome in refused],
    }


def _show(output: Output, report: RetrievalReport) -> None:
    total, deepest = len(report.outcomes), report.k[-1]
    for k in report.k:
        found, of_document = report.found(k), report.document_recall(k)
        shares = Words(
            zh=f"{found} / {total}；算上文档对、段落不对的：{of_document:.3f}",
            en=f"{found} of {total}; any passage of the right document: {of_document:.3f}",
        )
        output.line(f"recall@{k:<6} {report.recall(k):.3f}", tail=(f"   {shares}", "dim"))
    within = Words(zh=f"前 {deepest} 个之内", en=f"within the first {deepest}").text()
    output.line(f"{'MRR':<13} {report.mean_reciprocal_rank:.3f}", tail=(f"   {within}", "dim"))
    median, slow = report.milliseconds(0.5), report.milliseconds(0.95)
    if median is not None and slow is not None:
        output.line(f"{'p50 / p95':<13} {median:.1f} / {slow:.1f} ms")
    _show_missed(output, report)


def _show_missed(output: Output, report: RetrievalReport) -> None:
    if not report.missed:
        return
    output.line()
    output.line(
        Words(
            zh=f"没有找到的：{len(report.missed)} 个（括号里是在文件中的序号或行号）",
            en=f"Missed: {len(report.missed)} (in brackets, the place or line in the file)",
        ).text(),
        "bold",
    )
    for outcome in report.missed[:_MISSED_SHOWN]:
        question = shortened(one_line(outcome.question.question), _SHOWN_COLUMNS)
        output.line(f"[{outcome.question.number}] {question}", tail=(f"\n    {_instead(outcome)}", "dim"))
    more = len(report.missed) - _MISSED_SHOWN
    if more > 0:
        output.line(
            Words(zh=f"……另有 {more} 个（--json 列出全部）", en=f"… and {more} more (--json lists all)").text(), "dim"
        )


def _instead(outcome: Outcome) -> str:
    """What came first where nothing right did."""
    if outcome.question.is_empty:
        return Words(zh="空的问题", en="an empty question").text()
    if outcome.first is None:
        return Words(zh="什么也没有找到", en="nothing was found").text()
    source, page = outcome.first.metadata["source"], outcome.first.metadata["page"]
    place = named(pages_of_documents([outcome.first])(source, page), page)
    found = shortened(one_line(f"{place}: {outcome.first.page_content}"), _SHOWN_COLUMNS)
    told = Words(zh=f"最前面的是 {found}", en=f"first came {found}")
    if not outcome.document_rank:
        return told.text()
    rank = outcome.document_rank
    return Words(
        zh=f"{told.zh}（文档对了，在第 {rank} 位，但不是要找的段落）",
        en=f"{told.en} (the right document is at rank {rank}, with another passage)",
    ).text()


def _show_notes(
    output: Output, report: RetrievalReport, away: Sequence[JudgedQuestion], refused: Sequence[FileOutcome]
) -> None:
    total = len(report.outcomes)
    if away:
        told = Words(
            zh=f"{total} 个问题中有 {len(away)} 个问的是知识库里没有的文件，不可能找到：{_numbers(away)}",
            en=f"{len(away)} of {total} questions are about text that is not in the library and cannot be found: "
            f"{_numbers(away)}",
        )
        output.note(told.text(), "yellow")
    if report.empty:
        told = Words(
            zh=f"{len(report.empty)} 个问题是空的，算作没有找到：{_numbers(report.empty)}",
            en=f"{counted(len(report.empty), 'empty question')}, counted as missed: {_numbers(report.empty)}",
        )
        output.note(told.text(), "yellow")
    if report.unjudged:
        told = Words(
            zh=f"{len(report.unjudged)} 个问题没有写明什么算对，不计分：{_numbers(report.unjudged)}",
            en=f"{counted(len(report.unjudged), 'question')} left out, as nothing is said to be right for them: "
            f"{_numbers(report.unjudged)}",
        )
        output.note(told.text(), "yellow")
    if refused:
        told = Words(
            zh=f"{len(refused)} 段原文没有读入：{refused[0].reason}",
            en=f"{counted(len(refused), 'text')} could not be read: {refused[0].reason}",
        )
        output.note(told.text(), "yellow")


def _numbers(questions: Sequence[JudgedQuestion]) -> str:
    """The numbers of the first of ``questions``."""
    listed = ", ".join(str(question.number) for question in questions[:_MISSED_SHOWN])
    return f"{listed}, …" if len(questions) > _MISSED_SHOWN else listed
