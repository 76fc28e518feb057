"""Office files behind a password, through msoffcrypto-tool: decrypted in memory, then read as what they are."""

from __future__ import annotations

import io

from chinese_alpaca_rag.errors import MissingExtraError
from chinese_alpaca_rag.ingest.refusals import damaged, encrypted
from chinese_alpaca_rag.library.records import ParsedDocument

# What a file is encrypted with when it is only marked as read-only: programs open such files without asking.
_READ_ONLY_PASSWORD = "VelvetSweatshop"  # noqa: S105 - published by Microsoft, [MS-OFFCRYPTO] 2.4.2.3


def read_encrypted(data: bytes, name: str, *, password: str | None = None) -> ParsedDocument:
    """The document inside an encrypted Word, Excel or PowerPoint file of 2007 or later.

    DocumentRefusedError without the right ``password``; MissingExtraError without the ``office`` extra.
    """
    from chinese_alpaca_rag.ingest.formats import detect_format
    from chinese_alpaca_rag.ingest.parsers import PARSERS

    plain = _decrypted(data, [password] if password else [_READ_ONLY_PASSWORD])
    inner = detect_format(plain, "document")
    if inner not in ("docx", "xlsx", "pptx"):
        raise damaged("Office", f"{inner} inside")
    return PARSERS[inner].read(plain, name, encoding=None, password=None)


def _decrypted(data: bytes, passwords: list[str]) -> bytes:
    try:
        import msoffcrypto
        from msoffcrypto.exceptions import DecryptionError, InvalidKeyError
    except ImportError:
        raise MissingExtraError.for_package("msoffcrypto-tool", "office") from None
    for password in passwords:
        out = io.BytesIO()
        try:
            file = msoffcrypto.OfficeFile(io.BytesIO(data))
            file.load_key(password=password, verify_password=True)
            file.decrypt(out)
        except (InvalidKeyError, DecryptionError):
            continue
        return out.getvalue()
    raise encrypted("Office")
