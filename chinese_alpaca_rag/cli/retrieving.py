"""What the commands that look something up in the library have in common."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from chinese_alpaca_rag.cli.session import Session
from chinese_alpaca_rag.cli.text import counted
from chinese_alpaca_rag.errors import EmptyLibraryError, WrongUsageError
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.library.scope import Scope
from chinese_alpaca_rag.library.store import Library

if TYPE_CHECKING:
    from langchain_core.retrievers import BaseRetriever

    from chinese_alpaca_rag.retrieval import LibraryVectors, LocalEmbeddings

DEFAULT_PASSAGES = 12


def passage_count(given: str | None) -> int:
    """The number given with ``--passages``, or its default; WrongUsageError for what is no such number."""
    if given is None:
        return DEFAULT_PASSAGES
    if given.strip().isascii() and given.strip().isdigit() and 0 < int(given) <= 10_000:
        return int(given)
    raise WrongUsageError(
        Words(zh=f"--passages 不能是 {given!r}。", en=f"--passages cannot be {given!r}."),
        hint=Words(
            zh="请给一个从 1 到 10000 的整数，例如 --passages 12",
            en="Give a whole number from 1 to 10000, such as --passages 12",
        ),
    )


def opened_retriever(session: Session, library: Library, k: int, scope: Scope | None = None) -> BaseRetriever:
    """What finds the ``k`` best passages of ``library``, or of a part of it, as the settings have it.

    Full-text search; with an embedding model, vectors as well; with a cross-encoder, ranked again. Passages that have
    no vectors yet are told of.
    """
    # LangChain takes a third of a second to import, numpy more.
    from chinese_alpaca_rag.retrieval.lexical import LibraryRetriever

    part = scope or Scope()
    paths = None if part.paths is None else list(part.paths)
    found: BaseRetriever
    found = lexical = LibraryRetriever(
        library=library, k=k, paths=paths, tags=list(part.tags), pages=part.pages, since=part.since, until=part.until
    )
    vectors = library_vectors(session, library)
    if vectors is not None:
        from chinese_alpaca_rag.retrieval.hybrid import HybridRetriever

        _tell_of_missing(session, vectors)
        found = HybridRetriever(lexical=lexical, store=vectors, k=k)
    if session.settings.reranker is not None:
        from chinese_alpaca_rag.retrieval.reranking import CrossEncoderReranker, RerankingRetriever

        found = RerankingRetriever(retriever=found, reranker=CrossEncoderReranker(session.settings.reranker), k=k)
    return found


def library_vectors(session: Session, library: Library) -> LibraryVectors | None:
    """The library's vectors by the settings' embedding model; None without one."""
    if session.settings.embedding is None:
        return None
    from chinese_alpaca_rag.retrieval.dense import LibraryVectors

    session.output.status(Words(zh="正在准备嵌入模型……", en="Preparing the embedding model …").text())
    return LibraryVectors(library, embedding_model(session))


def embed_missing(session: Session, library: Library) -> int:
    """Make the vectors that the settings' model has not made yet, with progress; of how many texts."""
    vectors = library_vectors(session, library)
    if vectors is None:
        return 0

    def show(done: int, total: int) -> None:
        session.output.status(Words(zh=f"计算向量 {done}/{total}", en=f"Vectors: {done} of {total}").text())

    count = vectors.embed_missing(show)
    session.output.clear_status()
    return count


def embedding_model(session: Session) -> LocalEmbeddings:
    """The settings' embedding model: on a GPU where there is one, else in 8-bit integers where they can be had."""
    from importlib.util import find_spec

    from chinese_alpaca_rag.retrieval.embeddings import LocalEmbeddings
    from chinese_alpaca_rag.retrieval.encoders import check_folder

    folder = session.settings.embedding
    assert folder is not None  # noqa: S101 - the caller saw to it
    check_folder(folder)
    converts = find_spec("onnx") is not None and find_spec("onnxruntime") is not None
    return LocalEmbeddings(
        folder,
        precision="int8" if converts and not _has_gpu() else "float32",
        cache_folder=session.settings.converted_folder,
    )


def _has_gpu() -> bool:
    # Without asking torch, which takes seconds to import.
    return Path("/dev/nvidia0").exists()


def _tell_of_missing(session: Session, vectors: LibraryVectors) -> None:
    missing = vectors.missing
    if missing:
        session.output.complain(
            Words(
                zh=f"有 {missing} 个段落还没有向量，只能按字词找到。运行 alpaca-rag ingest 会补算。",
                en=f"{counted(missing, 'passage')} without vectors: found by words only. alpaca-rag ingest makes them.",
            ).text(),
            "yellow",
        )


def readable(text: str) -> str:
    """An argument without white space around it.

    What the locale could not decode arrives as surrogates: those bytes are read as UTF-8, or shown as unreadable.
    """
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace").strip()


def empty_library(session: Session) -> EmptyLibraryError:
    """The error for a library without any document."""
    folder = session.settings.library
    command = "alpaca-rag ingest" + (f" --library {folder}" if "library" in session.settings.origins else "")
    return EmptyLibraryError(
        Words(zh=f"知识库 {folder} 里还没有可读的文档。", en=f"The library {folder} holds no document yet."),
        hint=Words(zh=f"先读入文件：{command} 路径…", en=f"Read some files first: {command} PATH…"),
    )
