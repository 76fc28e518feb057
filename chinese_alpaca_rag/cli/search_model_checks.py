"""Are the models of search where the settings say, and is everything embedded?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from chinese_alpaca_rag.cli.check import Check, same
from chinese_alpaca_rag.cli.places import shown_path
from chinese_alpaca_rag.errors import AlpacaRagError
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.settings import Settings


def search_model_checks(settings: Settings) -> Iterator[Check]:
    """A check for each model of search that the settings name; nothing is loaded."""
    for name, label, folder in (
        ("embedding", Words(zh="嵌入模型", en="embedding model"), settings.embedding),
        ("reranker", Words(zh="重排模型", en="reranking model"), settings.reranker),
    ):
        if folder is not None:
            yield _check_folder(name, label, folder)


def _check_folder(name: str, label: Words, folder: Path) -> Check:
    from chinese_alpaca_rag.retrieval.encoders import check_folder

    try:
        check_folder(folder)
    except AlpacaRagError as error:
        return Check(name, label, "problem", error.message, error.hint)
    return Check(name, label, "ok", same(shown_path(str(folder))))
