"""Bringing in ``unstructured`` so that it stays on this machine and starts in half a second.

On import it calls home unless told otherwise; at the first document it downloads a spaCy model and installs
it. The model serves only to guess element types from English grammar, a guess that is not used here (and is wrong
for Chinese). So its tokenizer module is replaced by a plain one before anything imports it, which also spares
spaCy itself: 0.4 s and 135 MB of memory instead of 2 s and 350 MB.

To be called in a process of its own: the replacement would surprise other users of ``unstructured``.
"""

from __future__ import annotations

import os
import sys
from types import ModuleType
from typing import Any

from chinese_alpaca_rag.errors import MissingExtraError
from chinese_alpaca_rag.sentences import sentence_spans

_TOKENIZER = "unstructured.nlp.tokenize"


def partition_function(format_name: str) -> Any:
    """``partition_docx`` or ``partition_pptx`` of unstructured, with its reach to the outside cut.

    MissingExtraError names the ``unstructured`` extra where unstructured or one of its parsers is not installed.
    """
    for variable in ("DO_NOT_TRACK", "SCARF_NO_ANALYTICS", "UNSTRUCTURED_DISABLE_NOTICE"):
        os.environ[variable] = "1"
    sys.modules.setdefault(_TOKENIZER, _plain_tokenizer())
    try:
        if format_name == "docx":
            from unstructured.partition.docx import partition_docx

            return partition_docx
        from unstructured.partition.pptx import partition_pptx
    except ImportError as error:
        raise MissingExtraError.for_package(error.name or "unstructured", "unstructured") from None
    return partition_pptx


def _plain_tokenizer() -> ModuleType:
    """A stand-in for unstructured's tokenizer: sentences by rule, words by spaces, no parts of speech."""

    def sent_tokenize(text: str) -> list[str]:
        return [text[start:end] for start, end in sentence_spans(str(text))]

    def word_tokenize(text: str) -> list[str]:
        return str(text).split()

    def pos_tag(text: str) -> list[tuple[str, str]]:
        return [(word, "") for word in str(text).split()]

    module = ModuleType(_TOKENIZER)
    for function in (sent_tokenize, word_tokenize, pos_tag):
        setattr(module, function.__name__, function)
    return module
