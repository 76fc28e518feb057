"""The words around a quotation that claim nothing themselves: 根据手册规定：“…”, according to the manual, "…".

A quotation verifies a sentence only when the rest of the sentence is such framing. ``总经理说：“…”`` is
not, nor is ``不适用“…”``: they claim something, and that is for the whole sentence to prove. The titles
and headings of what is cited count as framing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from chinese_alpaca_rag.chains.folding import fold, is_ideographic

# A longer frame says something of its own.
LONGEST_FRAME = 160
_LONGEST_WORD = 12

_CHINESE_WORDS = """
根据 依据 按照 依照 参照 参见 详见 见于 来自 出自 摘自 引自 上述 以上 以下 如下 下列 下面 上面 下述 其中 其 该
此 这 这些 那 即 也就是 资料 来源 资料来源 出处 文件 文档 材料 原文 文中 文章 文本 正文 内容 信息 段落 条文 条款
章节 手册 制度 规章 条例 办法 章程 报告 公告 通知 合同 协议 纪要 说明书 指南 表格 网页 说法 表述 描述 记载 说明
介绍 规定 明确规定 明确 明文 要求 指出 写道 写明 写着 写 提到 提及 显示 表明 注明 载明 列明 列出 强调 表示 称 说
讲到 可知 可见 得知 可以看到 因此 所以 因而 故 于是 综上 综上所述 总之 总的来说 此外 另外 同时 而且 并且 首先
其次 再次 然后 最后 具体 具体来说 具体而言 例如 比如 譬如 如 答 答案 回答 问题 关于 对于 至于 方面 相关 有关
对应 一句 一段 里面 这里 这句 这段 这样 为了 由于 因为 当 时 的 了 在 是 为 有 于 由 从 据 见 中 里 和 与 并 也
还 则 及 以 对 就 将 被 把 让 使 给 等 所 之 而 且 都 地 着 过 道 到 用 作 做
"""
_ENGLISH_WORDS = """
according to the a an of in on by from at for with as per see source sources document documents text passage
section page file manual states state stated says say said mentions mention mentioned notes noted shows show
shown indicates indicate specifies specified describes described explains is are was were be been and also
therefore thus hence so that this these those it its they their there which where when answer answers question
moreover furthermore finally first quote quoted
"""
_CHINESE = frozenset(_CHINESE_WORDS.split())
_ENGLISH = frozenset(_ENGLISH_WORDS.split())


def is_framing(frame: str, names: Sequence[str] = ()) -> bool:
    """Whether ``frame`` consists of framing words and of the ``names`` (folded) of what is cited."""
    folded = fold(frame).text
    if len(folded) > LONGEST_FRAME:
        return False
    position = 0
    while position < len(folded):
        character = folded[position]
        if not character.isalnum():
            position += 1
            continue
        step = (
            _ideographs(folded, position, names) if is_ideographic(character) else _alphabetic(folded, position, names)
        )
        if not step:
            return False
        position += step
    return True


def _ideographs(frame: str, position: int, names: Sequence[str]) -> int:
    """The length of the longest known word at ``position``, or 0."""
    for length in range(min(_LONGEST_WORD, len(frame) - position), 0, -1):
        word = frame[position : position + length]
        if word in _CHINESE:
            return length
        if length >= 2 and word.isalnum() and any(word in name for name in names):
            return length
    return 0


def _alphabetic(frame: str, position: int, names: Sequence[str]) -> int:
    """The length of the whole word or number at ``position`` if it is known, or 0."""
    end = position
    while end < len(frame) and frame[end].isalnum() and not is_ideographic(frame[end]):
        end += 1
    word = frame[position:end]
    known = word in _ENGLISH or any(word in re.findall(r"[a-z0-9]+", name) for name in names)
    return end - position if known else 0
