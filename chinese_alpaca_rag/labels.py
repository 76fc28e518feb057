"""How a document of a library is named outside of it: on the stretches of a prompt, and on what is computed from them.

A label is one line of JSON, ``["/absolute/folder of the library","/path of the file","its content's sha256"]``.
Documents of no library are labelled with any other text, such as their source.
"""

from __future__ import annotations

import json


def document_label(library: str, path: str, sha256: str) -> str:
    """The label of the content ``sha256`` of the file ``path`` in the library whose absolute folder is ``library``."""
    return json.dumps([library, path, sha256], ensure_ascii=False, separators=(",", ":"))


def read_label(label: str) -> tuple[str, str, str] | None:
    """Library, path and sha256 of a ``document_label``; None for any other text, whoever wrote it."""
    if not (label.startswith('["') and label.endswith('"]')):
        return None
    try:
        parts = json.loads(label)
    except (ValueError, RecursionError):
        return None
    if not (isinstance(parts, list) and len(parts) == 3 and all(isinstance(part, str) and part for part in parts)):
        return None
    library, path, sha256 = parts
    # One document has one label: another spelling of the same JSON is none of ours.
    return (library, path, sha256) if document_label(library, path, sha256) == label else None
