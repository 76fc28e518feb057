"""The reasons for which a file is refused, each a pair of languages with what to do next."""

from __future__ import annotations

from chinese_alpaca_rag.errors import DocumentRefusedError
from chinese_alpaca_rag.language import Words

_OPENED_BY_PASSWORD = frozenset(("PDF", "Office"))


def damaged(format_name: str, detail: str = "") -> DocumentRefusedError:
    """The file is not what its format asks for; ``detail`` is the parser's own word, in English."""
    zh, en = (f"（{detail}）", f" ({detail})") if detail else ("", "")
    return DocumentRefusedError(
        Words(
            zh=f"文件已损坏，或不是真正的 {format_name} 文件{zh}。",
            en=f"The file is damaged or no real {format_name} file{en}.",
        ),
        hint=Words(
            zh="请用原来的程序打开它，另存一份后再试。",
            en="Open it in the program that made it, save a new copy and try that.",
        ),
    )


def empty_file() -> DocumentRefusedError:
    """The file has no bytes."""
    return DocumentRefusedError(
        Words(zh="文件是空的（0 字节）。", en="The file is empty (0 bytes)."),
        hint=Words(zh="请确认文件已完整保存或下载。", en="Check that it was saved or downloaded completely."),
    )


def without_text(detail: Words | None = None) -> DocumentRefusedError:
    """The file was read and holds no text."""
    zh, en = (f"：{detail.zh}", f": {detail.en}") if detail else ("", "")
    return DocumentRefusedError(
        Words(zh=f"文件里没有文字{zh}。", en=f"The file holds no text{en}."),
        hint=Words(
            zh="如果内容是图片，需要文字识别（OCR）。扫描的 PDF 可以直接读：pip install 'chinese-alpaca-rag[ocr]'",
            en="Pictures need OCR: for scanned PDF files, pip install 'chinese-alpaca-rag[ocr]' and read them again.",
        ),
    )


def encrypted(format_name: str) -> DocumentRefusedError:
    """The file opens only with a password that was not given or is wrong."""
    return DocumentRefusedError(
        Words(zh=f"{format_name} 文件有密码保护。", en=f"The {format_name} file is protected by a password."),
        hint=Words(
            zh="用 --password 给出密码（写 - 则在运行时输入）；或去掉密码，另存一份后再加入。",
            en="Give the password with --password (- asks for it), or save a copy without it and add that.",
        )
        if format_name in _OPENED_BY_PASSWORD
        else Words(zh="请去掉密码，另存一份后再加入。", en="Save a copy without the password and add that."),
    )


def unknown_format(suffix: str) -> DocumentRefusedError:
    """Neither the file's name nor its first bytes say a format that can be read."""
    zh, en = (f"“{suffix}”", f" {suffix!r}") if suffix else ("（没有扩展名）", " (the name has no suffix)")
    return DocumentRefusedError(
        Words(zh=f"不认识的文件格式{zh}。", en=f"Unknown file format{en}."),
        hint=Words(
            zh="请转换成 PDF、docx、xlsx、pptx、HTML、Markdown 或文本；如果它就是纯文本，请把扩展名改为 .txt。",
            en="Convert it to PDF, docx, xlsx, pptx, HTML, Markdown or text; if it is plain text, rename it to .txt.",
        ),
    )


def unsupported(format_name: str, convert_to: str) -> DocumentRefusedError:
    """A format that is known and cannot be read; ``convert_to`` is the suffix to save it as."""
    return DocumentRefusedError(
        Words(zh=f"暂不支持 {format_name} 格式。", en=f"{format_name} files cannot be read yet."),
        hint=Words(
            zh=f"请用办公软件打开它，另存为 {convert_to} 后再加入。",
            en=f"Open it in an office program, save it as {convert_to} and add that.",
        ),
    )


def too_large(what: Words, actual: int, limit: int) -> DocumentRefusedError:
    """A size (bytes unless ``what`` says otherwise) is over what is taken in."""
    return DocumentRefusedError(
        Words(
            zh=f"{what.zh}为 {actual:,}，超过上限 {limit:,}。",
            en=f"{what.en} is {actual:,}, over the limit of {limit:,}.",
        ),
        hint=Words(zh="请把文件拆分成几份后再加入。", en="Split the file into parts and add those."),
    )


def unreadable(error: OSError) -> DocumentRefusedError:
    """The operating system does not give the file's bytes."""
    detail = error.strerror or type(error).__name__
    return DocumentRefusedError(
        Words(zh=f"无法读取文件：{detail}。", en=f"The file cannot be read: {detail}."),
        hint=Words(
            zh="请检查文件是否还在、是否有读取权限。", en="Check that it is still there and that you may read it."
        ),
    )


def unsettled() -> DocumentRefusedError:
    """The file changed each time while it was read."""
    return DocumentRefusedError(
        Words(zh="文件在读取时一直被改写。", en="The file kept changing while it was read."),
        hint=Words(
            zh="等写入它的程序完成后，再运行一次同样的命令。",
            en="Run the same command again when the program that writes it is done.",
        ),
    )
