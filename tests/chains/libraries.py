"""Generated libraries for property tests: documents with pages, and passages cut from them."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import strategies as st
from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever

from chinese_alpaca_rag.sentences import sentence_spans

WORDS = (
    "年假",
    "员工",
    "差旅",
    "报销",
    "不得",
    "三天",
    "15天",
    "总经理",
    "审批",
    "价格",
    "25.5元",
    "ZX-200",
    "report",
    "annual",
    "明天",
)
ENDS = ("。", "！", "；", "\n", "。\n\n", ". ")


class FixedRetriever(BaseRetriever):
    """Finds what it was given, whatever the question."""

    documents: list[Document]

    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:
        return self.documents


def passage(text: str, *, source: str = "/docs/手册.txt", page: int = 1, start: int = 0, **more: object) -> Document:
    """One passage with the metadata that the library gives."""
    known = {"source": source, "title": "员工手册", "page": page, "page_label": "", "page_kind": "page"}
    known |= {"start": start, "end": start + len(text), "heading": "", "position": 0, "passage_id": 1}
    return Document(page_content=text, metadata=known | more)


@st.composite
def sentences(draw: st.DrawFn) -> str:
    words = draw(st.lists(st.sampled_from(WORDS), min_size=2, max_size=14))
    return "".join(words) + draw(st.sampled_from(ENDS))


@st.composite
def pages(draw: st.DrawFn) -> str:
    return "".join(draw(st.lists(sentences(), min_size=1, max_size=12)))


@st.composite
def ranked_passages(draw: st.DrawFn, most: int = 14) -> tuple[list[Document], dict[tuple[str, int], str]]:
    """Passages in any order (as a ranking would have them), and the pages that they were cut from.

    Neighbours may touch, overlap or leave a gap; now and then one passage comes twice.
    """
    shelf: dict[tuple[str, int], str] = {}
    found: list[Document] = []
    for source in ("/docs/a.pdf", "/docs/b.txt", "/docs/c.docx")[: draw(st.integers(1, 3))]:
        for page in range(1, draw(st.integers(1, 2)) + 1):
            text = draw(pages())
            shelf[source, page] = text
            for start, end in draw(_spans(text)):
                if text[start:end].strip():
                    found.append(passage(text[start:end], source=source, page=page, start=start, title=source[6:7]))
    chosen = list(draw(st.permutations(found)))[:most]
    if chosen and draw(st.sampled_from((True, False))):
        chosen.append(chosen[0])
    return chosen, shelf


@st.composite
def _spans(draw: st.DrawFn, text: str) -> list[tuple[int, int]]:
    cuts = [0, *(end for _, end in sentence_spans(text))]
    spans = []
    for start, end in pairwise(cuts):
        overlap = draw(st.sampled_from((0, 0, 0, 3, -1)))
        spans.append((max(0, start - overlap), end))
    return spans
