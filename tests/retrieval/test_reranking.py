from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_tests.integration_tests import RetrieversIntegrationTests

from chinese_alpaca_rag.errors import CheckpointError, ModelError, ModelNotFoundError, WrongUsageError
from chinese_alpaca_rag.library.store import Library
from chinese_alpaca_rag.retrieval import CrossEncoderReranker, LibraryRetriever, Reranker, RerankingRetriever
from chinese_alpaca_rag.retrieval.cross_encoder import check_cross_encoder, load_cross_encoder, windows
from tests.library.samples import put
from tests.retrieval.toy_cross_encoder import OverlapReranker, write_cross_encoder


class Fixed(BaseRetriever):
    """Gives always the same; takes no ``k``."""

    documents: list[Document]

    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:
        return self.documents


class Scores:
    """A reranker that gives what it was made with."""

    def __init__(self, *scores: float) -> None:
        self._scores = list(scores)

    def scores(self, query: str, texts: Sequence[str]) -> list[float]:
        return self._scores


def documents(*texts: str) -> list[Document]:
    return [Document(id=text, page_content=text, metadata={"source": f"/{text}"}) for text in texts]


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    with Library.open(tmp_path / "library", create=True) as library:
        for number, text in enumerate(
            ("年假十五天。", "年假的申请要审批，年假由人事部门批。", "病假年假都要申请。", "年假")
        ):
            put(library, f"/{number}.txt", text)
        yield library


@pytest.mark.anyio
class TestRerankingRetriever(RetrieversIntegrationTests):
    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    @pytest.fixture(autouse=True)
    def _library(self, library: Library) -> None:
        type(self).library = library

    library: Library

    @property
    def retriever_constructor(self) -> type[BaseRetriever]:
        return RerankingRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"retriever": LibraryRetriever(library=self.library), "reranker": OverlapReranker()}

    @property
    def retriever_query_example(self) -> str:
        return "年假怎么申请？"


def test_the_reranker_decides() -> None:
    inner = Fixed(documents=documents("丙", "甲", "甲乙"))
    found = RerankingRetriever(retriever=inner, reranker=OverlapReranker(), k=2).invoke("甲乙")
    assert [document.page_content for document in found] == ["甲乙", "甲"]
    assert [document.metadata["rerank_score"] for document in found] == [2.0, 1.0]
    assert [document.metadata["former_rank"] for document in found] == [3, 2]
    assert "rerank_score" not in inner.documents[2].metadata


def test_equal_scores_keep_the_former_order() -> None:
    inner = Fixed(documents=documents("丙", "丁", "甲", "戊"))
    found = RerankingRetriever(retriever=inner, reranker=OverlapReranker()).invoke("甲")
    assert [document.page_content for document in found] == ["甲", "丙", "丁", "戊"]


def test_as_many_are_fetched_as_are_asked_for(library: Library) -> None:
    reranker = OverlapReranker()
    retriever = RerankingRetriever(retriever=LibraryRetriever(library=library, k=1), reranker=reranker, k=2, fetch=3)
    assert len(retriever.invoke("年假申请")) == 2
    assert len(retriever.invoke("年假申请", k=4)) == 4
    assert [len(texts) for _, texts in reranker.asked] == [3, 4]
    assert retriever.invoke("zebra") == []
    assert len(reranker.asked) == 2


@pytest.mark.parametrize("scores", [(float("nan"), 1.0), (1.0, float("inf")), (1.0,), (1.0, 2.0, 3.0)])
def test_scores_that_are_none_are_an_error(scores: tuple[float, ...]) -> None:
    retriever = RerankingRetriever(retriever=Fixed(documents=documents("甲", "乙")), reranker=Scores(*scores))
    with pytest.raises(ModelError, match="Scores"):
        retriever.invoke("甲")


# Windows


@given(st.text(min_size=0, max_size=200), st.integers(1, 20))
def test_windows_hold_everything_and_fit(text: str, room: int) -> None:
    def count(stretch: str) -> int:
        return len(stretch.encode("utf-8", "replace")) // 2

    found = windows(text, room, count)
    assert all(count(window) <= room or len(window) == 1 for window in found)
    if count(text) <= room:
        assert found == [text]
    end = 0
    for window in found:  # each begins at or before the former's end, and goes on behind it
        start = max(place for place in range(end + 1) if text.startswith(window, place))
        end = max(end, start + len(window))
    assert end == len(text)


def test_windows_overlap_by_a_quarter() -> None:
    assert windows("abcdefghijkl", 8, len) == ["abcdefgh", "ghijkl"]


# A real cross-encoder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("sentence_transformers", reason="needs the dense extra")
    return write_cross_encoder(tmp_path_factory.mktemp("models") / "toy")


TEXTS = ["公司员工每年享受带薪年假十五天", "出差住宿标准", "年假", "人事部门审批"]


def reference(folder: Path, query: str, text: str) -> float:
    """The logit as transformers gives it, one pair at a time."""
    import torch
    from transformers import AutoTokenizer, BertForSequenceClassification

    model = BertForSequenceClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        encoded = AutoTokenizer.from_pretrained(folder)(query, text, return_tensors="pt")
        return float(model(**encoded).logits[0, 0])


def test_scores_are_the_models_logits(folder: Path) -> None:
    reranker = CrossEncoderReranker(folder, batch_size=2)
    assert isinstance(reranker, Reranker)
    scores = reranker.scores("年假有几天", [*TEXTS, TEXTS[0]])
    assert scores[:4] == pytest.approx([reference(folder, "年假有几天", text) for text in TEXTS], abs=1e-5)
    assert scores[4] == scores[0]
    assert len({round(score, 4) for score in scores}) == 4
    assert reranker.scores("年假", []) == []


def test_the_best_window_of_a_long_passage_counts(folder: Path) -> None:
    query = "年假有几天"
    room = 48 - 3 - len(query)
    long = "出差住宿报销标准上限" * 8 + TEXTS[0]
    pieces = windows(long, room, len)
    assert len(pieces) > 2
    expected = max(reference(folder, query, piece) for piece in pieces)
    assert CrossEncoderReranker(folder).scores(query, [long]) == pytest.approx([expected], abs=1e-5)


def test_every_window_of_a_long_question_counts(folder: Path) -> None:
    query = "公司员工每年享受带薪年假十五天出差住宿标准上限报销申请人事部门审批流程加班费"
    parts = windows(query, 22, len)
    assert len(parts) > 1
    room = 45 - max(map(len, parts))
    text = TEXTS[0] * 3
    pieces = windows(text, room, len)
    expected = [max(reference(folder, part, piece) for piece in pieces) for part in parts]
    found = CrossEncoderReranker(folder).scores(query, [text])
    assert found == pytest.approx([sum(expected) / len(parts)], abs=1e-5)


def test_a_shorter_limit_is_kept(folder: Path) -> None:
    expected = max(reference(folder, "年假", piece) for piece in windows(TEXTS[0], 9, len))
    found = CrossEncoderReranker(folder, max_length=14).scores("年假", TEXTS[:1])
    assert found == pytest.approx([expected], abs=1e-5)
    with pytest.raises(WrongUsageError, match="max_length"):
        CrossEncoderReranker(folder, max_length=5).scores("年假", TEXTS)
    with pytest.raises(WrongUsageError):
        CrossEncoderReranker(folder, max_length=0)
    with pytest.raises(WrongUsageError):
        CrossEncoderReranker(folder, batch_size=0)


def test_odd_texts_are_scored(folder: Path) -> None:
    scores = CrossEncoderReranker(folder).scores("", ["", "\ud800", "[SEP][CLS]", "🦙" * 100, "\x00"])
    assert len(scores) == 5


def test_several_threads_load_it_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[int] = []

    def counted(*arguments: Any) -> Any:
        loaded.append(threading.get_ident())
        return load_cross_encoder(*arguments)

    monkeypatch.setattr("chinese_alpaca_rag.retrieval.reranking.load_cross_encoder", counted)
    reranker = CrossEncoderReranker(folder)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: reranker.scores("年假有几天", TEXTS), range(8)))
    assert len(loaded) == 1
    assert all(scores == pytest.approx(found[0], abs=1e-6) for scores in found)


def test_it_ranks_in_a_retriever(folder: Path, library: Library) -> None:
    reranker = CrossEncoderReranker(folder)
    found = RerankingRetriever(retriever=LibraryRetriever(library=library), reranker=reranker).invoke("年假有几天")
    scores = [document.metadata["rerank_score"] for document in found]
    assert len(found) == 4
    assert scores == sorted(scores, reverse=True)


# Folders that are refused


def test_no_folder(tmp_path: Path) -> None:
    reranker = CrossEncoderReranker("BAAI/bge-reranker-base")  # a name of the hub is none of a folder
    with pytest.raises(ModelNotFoundError) as caught:
        reranker.scores("年假", ["年假"])
    assert "bge-reranker" in caught.value.hint.en
    with pytest.raises(CheckpointError, match="safetensors"):
        check_cross_encoder(tmp_path)


def test_pickled_weights_are_never_opened(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    (tmp_path / "config.json").write_text('{"architectures": ["BertForSequenceClassification"]}')
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin"):
        CrossEncoderReranker(tmp_path).scores("年假", ["年假"])


def changed(folder: Path, copy: Path, **values: Any) -> Path:
    copy.mkdir()
    for path in folder.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, **values}))
    return copy


def test_other_models_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="BertModel"):
        check_cross_encoder(changed(folder, tmp_path / "encoder", architectures=["BertModel"]))
    (tmp_path / "encoder" / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="config"):
        check_cross_encoder(tmp_path / "encoder")
    foreign = changed(folder, tmp_path / "foreign")
    (foreign / "modules.json").write_text('[{"idx": 0, "name": "0", "path": "", "type": "evil.Module"}]')
    (foreign / "evil.py").write_text("raise SystemExit('ran')")
    with pytest.raises(CheckpointError, match="evil"):
        check_cross_encoder(foreign)
    classes = write_cross_encoder(tmp_path / "classes", labels=3)
    with pytest.raises(ModelError):
        CrossEncoderReranker(classes).scores("年假", TEXTS)


def test_damaged_or_incomplete_weights_are_refused(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    damaged = changed(folder, tmp_path / "damaged")
    (damaged / "model.safetensors").write_bytes(b"\0" * 64)
    with pytest.raises(CheckpointError):
        CrossEncoderReranker(damaged).scores("年假", TEXTS)
    headless = changed(folder, tmp_path / "headless")
    tensors = load_file(headless / "model.safetensors")
    bare = {name: tensor for name, tensor in tensors.items() if "classifier" not in name}
    save_file(bare, headless / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"tensor|打分"):
        CrossEncoderReranker(headless).scores("年假", TEXTS)


def test_weights_that_give_no_numbers(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    broken = changed(folder, tmp_path / "broken")
    tensors = load_file(broken / "model.safetensors")
    tensors["classifier.bias"] = tensors["classifier.bias"] * float("nan")
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="NaN"):
        CrossEncoderReranker(broken).scores("年假", TEXTS)


def test_nothing_heavy_is_imported_before_it_is_used(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from chinese_alpaca_rag.retrieval import ArrangingRetriever, CrossEncoderReranker, MultiQueryRetriever\n"
        f"CrossEncoderReranker({str(tmp_path)!r})\n"
        "print([name for name in ('numpy', 'torch', 'sentence_transformers') if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "[]"
