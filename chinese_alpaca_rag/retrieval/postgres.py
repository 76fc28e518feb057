"""A library's passages in PostgreSQL with pgvector, for teams, through LangChain's own integration."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from langchain_core.embeddings import Embeddings

from chinese_alpaca_rag.errors import MissingExtraError, VectorStoreError, WrongUsageError
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.library.store import Library
from chinese_alpaca_rag.retrieval.keeping_step import (
    LIBRARY,
    MARK,
    OnProgress,
    bring_store_in_step,
    wanted_documents,
)
from chinese_alpaca_rag.retrieval.probing import probe_of

if TYPE_CHECKING:
    from langchain_postgres import PGVectorStore

_TABLE = re.compile(r"[a-z_][a-z0-9_]{0,62}")


def open_postgres_vectors(
    url: str, library: Library, embedding: Embeddings, *, table: str = "passages", on_progress: OnProgress | None = None
) -> PGVectorStore:
    """A ``PGVectorStore`` with the passages of ``library``, as it is now, in ``table`` of the database at ``url``.

    ``url``: ``postgresql://user:password@host/database``. This is the one store that sends text to where the user
    says. Table and extension are made if they are missing; several libraries may share a table, each only changes
    what is its own; ``HybridRetriever`` returns those of its library. WrongUsageError for a table name other than
    small letters, digits and ``_``; VectorStoreError where the database refuses; MissingExtraError without
    langchain-postgres.
    """
    if not _TABLE.fullmatch(table):
        raise _no_table_name(table)
    try:
        import psycopg
        from langchain_postgres import PGEngine, PGVectorStore
        from sqlalchemy.exc import SQLAlchemyError
    except ImportError as error:
        raise MissingExtraError.for_package("langchain-postgres", "postgres") from error
    plain = re.sub(r"^postgres(?:ql)?(?:\+\w+)?://", "postgresql://", url)
    dimension = len(probe_of(embedding))
    try:
        with psycopg.connect(plain, autocommit=True) as connection:
            if _dimension(connection, table) is None:
                connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
            elif _dimension(connection, table) != dimension:
                raise _another_dimension(table, dimension)
            engine = PGEngine.from_connection_string(plain.replace("postgresql://", "postgresql+psycopg://", 1))
            if _dimension(connection, table) is None:
                engine.init_vectorstore_table(table, dimension, id_column=_text_column())
            store = PGVectorStore.create_sync(engine, embedding, table)
            held = _held(connection, table, library)
        bring_store_in_step(store, wanted_documents(library), held, on_progress=on_progress)
    except (psycopg.Error, SQLAlchemyError) as error:
        raise _refused(error) from error
    return store


def _text_column() -> Any:
    from langchain_postgres import Column

    return Column("langchain_id", "TEXT", nullable=False)


def _dimension(connection: Any, table: str) -> int | None:
    """Of the vectors in ``table``; None where there is no such table."""
    row = connection.execute(
        "SELECT atttypmod FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attname = 'embedding'", (table,)
    ).fetchone()
    return int(row[0]) if row else None


def _held(connection: Any, table: str, library: Library) -> dict[str, str]:
    from psycopg import sql

    select = sql.SQL(
        "SELECT langchain_id, langchain_metadata->>{mark} FROM {table} WHERE langchain_metadata->>{library} = %s"
    ).format(mark=sql.Literal(MARK), library=sql.Literal(LIBRARY), table=sql.Identifier(table))
    folder = library.absolute_folder.encode("utf-8", "replace").decode()
    return {str(row[0]): str(row[1]) for row in connection.execute(select, (folder,)).fetchall()}


def _no_table_name(table: str) -> WrongUsageError:
    return WrongUsageError(
        Words(zh=f"表名不能是 {table!r}。", en=f"A table cannot be called {table!r}."),
        hint=Words(zh="用小写字母、数字和下划线，例如 passages。", en="Small letters, digits and _, such as passages."),
    )


def _another_dimension(table: str, dimension: int) -> VectorStoreError:
    return VectorStoreError(
        Words(
            zh=f"表 {table} 里的向量不是 {dimension} 维。",
            en=f"The vectors in {table} have not {dimension} dimensions.",
        ),
        hint=Words(
            zh="它是用别的嵌入模型建的：请另用一个表。", en="Another embedding model made them: use another table."
        ),
    )


def _refused(error: Exception) -> VectorStoreError:
    # The message of a failed connection names host and user, never the password.
    said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return VectorStoreError(
        Words(zh=f"PostgreSQL 拒绝了：{said}", en=f"PostgreSQL refused: {said}"),
        hint=Words(
            zh="检查地址、权限，以及是否装有 pgvector 扩展。",
            en="Check the address, the rights, and that the extension pgvector is installed.",
        ),
    )
