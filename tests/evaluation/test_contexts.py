"""A library of the texts that questions are about."""

from __future__ import annotations

from chinese_alpaca_rag.evaluation.contexts import contexts_of, judged_by_context, library_of
from chinese_alpaca_rag.evaluation.questions import JudgedQuestion

QUESTIONS = (
    JudgedQuestion(1, "a", ("五",), context="年假有五天。"),
    JudgedQuestion(2, "b", context="住宿费五百元。"),
    JudgedQuestion(3, "c", context="年假有五天。", sources=("x.pdf",), pages=(1,)),
    JudgedQuestion(4, "d", ("五",)),
)


def test_each_context_is_a_file_while_it_lasts() -> None:
    contexts = contexts_of(QUESTIONS)
    assert contexts == ("年假有五天。", "住宿费五百元。")
    with library_of(contexts) as library:
        folder = library.folder
        assert [library.page_text(record.path, 1) for record in library.files()] == list(contexts)
    assert not folder.parent.exists()


def test_a_library_of_contexts_has_none_of_the_files() -> None:
    assert [(question.sources, question.pages) for question in judged_by_context(QUESTIONS)] == [((), ())] * 4
