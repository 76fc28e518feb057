"""A small SentencePiece model of the family's kind, trained in a moment on the text below.

Byte-pair encoding, byte fallback, identity normaliser, dummy prefix; ``<unk> <s> </s>`` are 0, 1 and
2, the bytes 3 to 258. The same text gives the same model every time.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from functools import cache

import sentencepiece

_LINES = """\
You are a helpful assistant. 你是一个乐于助人的助手。
Below is an instruction that describes a task. Write a response that appropriately completes the request.
[INST] <<SYS>> You are a helpful assistant. <</SYS>> Answer the question from the sources. [/INST]
[INST] Summarise the report. [/INST] The report describes the first quarter of the year.
### Instruction: Translate the sentence. ### Response: The sentence was translated.
<human>: What is the working time? <bot>: From nine in the morning to six in the evening.
员工手册：正式员工每年享有年假，工作满一年的员工有五天年假，满十年的员工有十天年假。
年假应当在当年使用，因工作需要不能休假的，经部门经理批准可以顺延到下一年第一季度。
出差人员乘坐高铁二等座，住宿标准为一线城市每晚五百元，其他城市每晚三百五十元。
公司的工作时间是上午九点到下午六点，中午休息一个小时，每周工作五天。
产品说明书：使用前请检查电源线是否完好，不要在潮湿的环境中使用本设备。
如果指示灯变成红色，请立即关闭电源，并与售后服务中心联系。
会议纪要：会议决定在三月底以前完成新版本的测试，由研发部负责，市场部协助。
会议还讨论了第二季度的销售计划，销售额预计比去年同期增长百分之十二。
价格表：标准版每套一千二百元，专业版每套三千六百元，企业版请联系销售人员。
请根据以下资料回答问题，并在每句话后面注明资料的编号。如果资料中没有答案，请直接说不知道。
请用简洁的语言概括下面这篇文章的主要内容，不要加入文章中没有的信息。
问题：这家公司的年假有几天？答案：工作满一年的员工有五天年假。
问题：出差住宿的标准是多少？答案：一线城市每晚五百元。
北京是中华人民共和国的首都，是全国的政治中心和文化中心。
上海位于长江入海口，是中国最大的经济中心和国际航运中心之一。
长城是中国古代的军事防御工程，东起山海关，西到嘉峪关，总长度超过两万公里。
人工智能是研究用计算机来模拟人的思维过程和智能行为的学科。
语言模型根据前面的文字预测下一个词，窗口越长，能够读到的文字就越多。
这份报告分析了过去五年的市场变化，并对未来三年的发展趋势作出了预测。
随着技术的进步，越来越多的企业开始使用知识库来管理内部文件。
图书馆今天开放到晚上八点，读者可以借阅图书、期刊和电子资料。
The price list holds the standard edition, the professional edition and the enterprise edition.
The meeting decided that the new version is to be tested before the end of March.
A long document is read in parts, and every part is counted in tokens before it is sent.
def answer(question): return sources[0] if question else None  # 12345 67890
{"name": "alpaca", "window": 4096, "layers": 4, "values": [1, 2, 3], "ratio": 0.25}
"""


def train(lines: Iterable[str], vocabulary_size: int) -> bytes:
    """A serialised model of ``vocabulary_size`` pieces, trained on ``lines``."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        model_type="bpe",
        vocab_size=vocabulary_size,
        byte_fallback=True,
        character_coverage=1.0,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()


@cache
def toy_tokenizer_model() -> bytes:
    """The toy family's tokenizer: 1,024 pieces, as a serialised SentencePiece model."""
    return train(_LINES.splitlines(), 1024)


@cache
def smallest_tokenizer_model() -> bytes:
    """The same text with no room for merges: every piece is one character, and so are the template's marks."""
    characters = set("".join(_LINES.split())) | {"▁"}
    return train(_LINES.splitlines(), 3 + 256 + len(characters))
