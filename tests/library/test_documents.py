from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from uuid import UUID

from chinese_alpaca_rag.labels import document_label
from chinese_alpaca_rag.library.documents import passage_document
from chinese_alpaca_rag.library.records import PassageSpan
from chinese_alpaca_rag.library.store import Library
from tests.library.samples import put


def test_a_passage_becomes_a_document_with_its_place(tmp_path: Path) -> None:
    with Library.open(tmp_path, create=True) as library:
        record = put(
            library, "/a.pdf", "第一页", "年假为十五天。", title="员工手册", spans=[PassageSpan(2, 0, 4, "休假 › 年假")]
        )
        [passage] = library.passages("/a.pdf")
    document = passage_document(passage, 1.5)
    assert document.page_content == "年假为十"
    assert document.id == str(UUID(document.id))
    elsewhere = passage_document(replace(passage, id=0))
    assert elsewhere.id == document.id
    assert passage_document(replace(passage, start=1)).id != document.id
    assert document.metadata == {
        "source": "/a.pdf",
        "title": "员工手册",
        "page": 2,
        "page_label": "p2",
        "page_kind": "page",
        "start": 0,
        "end": 4,
        "heading": "休假 › 年假",
        "position": 0,
        "passage_id": passage.id,
        "document": document_label(str(tmp_path), "/a.pdf", record.sha256),
        "score": 1.5,
    }
    assert "score" not in passage_document(passage).metadata
    assert passage_document(replace(passage, library="", sha256="")).metadata["document"] == "/a.pdf"
