"""What a model refuses before it evaluates anything, and the words for it."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Final

from langchain_core.exceptions import ContextOverflowError
from pydantic import ValidationError

from chinese_alpaca_rag.errors import CheckpointError, ModelError, NotEnoughMemoryError, WrongUsageError
from chinese_alpaca_rag.family.catalogue import CATALOGUE, ModelCard
from chinese_alpaca_rag.family.checkpoint import Checkpoint
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.llms.request import Request

# What other programs call the same thing.
_KNOWN_ELSEWHERE_AS: Final = {
    "context_window": "window",
    "do_sample": "temperature",
    "max_context": "window",
    "max_new_tokens": "max_tokens",
    "max_output_tokens": "max_tokens",
    "min_new_tokens": "min_tokens",
    "model": "model_path",
    "model_id": "model_path",
    "model_name": "model_path",
    "n_batch": "batch_size",
    "n_ctx": "window",
    "n_predict": "max_tokens",
    "num_ctx": "window",
    "assistant_model": "draft_model_path",
    "draft_model": "draft_model_path",
    "peft_model": "lora_path",
    "prompt_lookup_num_tokens": "speculation",
    "lora": "lora_path",
    "lora_model": "lora_path",
    "load_in_8bit": "quantization",
    "load_in_4bit": "quantization",
    "torch_dtype": "dtype",
    "attn_implementation": "attention",
    "repeat_penalty": "repetition_penalty",
    "rope_alpha": "alpha",
    "rope_freq_base": "window",
    "rope_freq_scale": "window",
    "rope_scaling": "window",
    "stop_sequences": "stop",
}


class PromptOverflowError(ModelError, ContextOverflowError):
    """The prompt leaves no room in the window; LangChain's own ``ContextOverflowError`` as well."""


def prompt_overflow(prompt_tokens: int, window: int, card: ModelCard) -> PromptOverflowError:
    """The error for a prompt of ``prompt_tokens`` in a window of ``window`` tokens."""
    wider = prompt_tokens + 1
    reaching = sorted(
        (other for other in CATALOGUE if other.kind == "chat" and other.window > max(wider, card.reach)),
        key=lambda other: (other.window, other.layers),
    )
    if wider <= card.reach:
        remedy = Words(
            zh=f"缩短对话或资料，或使用更大的窗口（最大 window={card.reach}）。",
            en=f"Shorten what is sent, or open a wider window (window={card.reach} at most).",
        )
    elif reaching:
        remedy = Words(
            zh=f"缩短对话或资料，或换用窗口更大的模型，如 {reaching[0].name}。",
            en=f"Shorten what is sent, or use a model with a wider window, such as {reaching[0].name}.",
        )
    else:
        widest = max((other for other in CATALOGUE if other.kind == "chat"), key=lambda other: other.reach)
        remedy = Words(
            zh=f"请缩短对话或资料：家族中最大的窗口是 {widest.reach}（{widest.name}）。",
            en=f"Shorten what is sent: the widest window of the family is {widest.reach} ({widest.name}).",
        )
    return PromptOverflowError(
        Words(
            zh=f"提示词有 {prompt_tokens} 个词元，窗口只有 {window} 个，没有回答的余地。",
            en=f"The prompt is {prompt_tokens} tokens long; the window of {window} leaves no room for a reply.",
        ),
        hint=remedy,
    )


def check_names(owner: str, names: Collection[str], known: Sequence[str]) -> None:
    """Raise ``WrongUsageError`` for the first of ``names`` that is not ``known``, with the nearest that is."""
    unknown = sorted(set(names) - set(known))
    if not unknown:
        return
    name = unknown[0]
    near = [_KNOWN_ELSEWHERE_AS[name]] if _KNOWN_ELSEWHERE_AS.get(name) in known else []
    near = near or difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    listed = ", ".join(known)
    raise WrongUsageError(
        Words(zh=f"{owner} 没有参数 {name}。", en=f"{owner} takes no argument called {name}."),
        hint=Words(
            zh=(f"是不是 {near[0]}？" if near else "") + f"可用的参数：{listed}",
            en=(f"Did you mean {near[0]}? " if near else "") + f"It takes: {listed}",
        ),
    )


def check_stops(stop: Any) -> tuple[str, ...]:
    """``stop`` as a tuple. Raises ``WrongUsageError`` unless it is ``None`` or a list of texts, none of them empty."""
    if stop is None:
        return ()
    if not isinstance(stop, list | tuple) or not all(isinstance(text, str) and text for text in stop):
        raise WrongUsageError(
            Words(zh=f"stop 必须是非空字符串的列表，而不是 {stop!r}。", en=f"stop is a list of texts, not {stop!r}."),
            hint=Words(zh='例如 stop=["\\n\\n"]', en='For example: stop=["\\n\\n"]'),
        )
    return tuple(stop)


def nothing_to_answer() -> WrongUsageError:
    """The error for a conversation whose last word is the model's own."""
    return WrongUsageError(
        Words(
            zh="最后一条消息必须是用户消息，否则没有可回答的内容。",
            en="The last message must be a human's: otherwise there is nothing to answer.",
        ),
        hint=Words(zh="请在对话末尾加上用户消息。", en="Add a human message at the end of the conversation."),
    )


def no_room_for_prompt(max_tokens: int, window: int) -> WrongUsageError:
    """The error for a reply as long as the window."""
    return WrongUsageError(
        Words(
            zh=f"max_tokens={max_tokens} 不小于窗口 {window}，提示词没有余地。",
            en=f"max_tokens={max_tokens} fills the whole window of {window}: there is no room for a prompt.",
        ),
        hint=Words(
            zh=f"请使用小于 {window} 的 max_tokens，或更大的窗口。",
            en=f"Use a max_tokens below {window}, or a wider window.",
        ),
    )


def no_room_for_rows(rows: int, prompts: Sequence[int], window: int) -> PromptOverflowError:
    """The error for beams or guidance whose prompts (in tokens) leave no room for ``rows`` replies."""
    lengths = " + ".join(map(str, sorted(set(prompts))))
    return PromptOverflowError(
        Words(
            zh=f"{rows} 路并行生成需要同时容纳 {lengths} 个词元的提示词和各自的回答，窗口 {window} 放不下。",
            en=f"{rows} replies side by side, over prompts of {lengths} tokens, do not fit the window of {window}.",
        ),
        hint=Words(
            zh="请减小 num_beams、去掉 guidance_scale、缩短提示词，或使用更大的窗口。",
            en="Use fewer num_beams, leave guidance_scale out, shorten what is sent, or open a wider window.",
        ),
    )


def check_combination(beams: int, guidance_scale: float, max_rows: int) -> None:
    """Raise ``WrongUsageError`` for more beams than there are rows, and for beams with guidance."""
    if beams > max_rows:
        raise WrongUsageError(
            Words(zh=f"num_beams={beams} 太多。", en=f"num_beams={beams} are too many."),
            hint=Words(zh=f"最多 {max_rows} 个。", en=f"Use at most {max_rows}."),
        )
    if beams > 1 and guidance_scale > 1:
        raise _not_together(beams, "guidance_scale")


def check_beams(beams: int, request: Request) -> None:
    """Raise ``WrongUsageError`` for what a search for ``beams`` cannot give."""
    if request.constraint is not None:
        raise _not_together(beams, "response_format / tools")
    if request.top_logprobs is not None:
        raise _not_together(beams, "logprobs")


def _not_together(beams: int, other: str) -> WrongUsageError:
    return WrongUsageError(
        Words(
            zh=f"num_beams={beams} 不能与 {other} 同时使用。", en=f"num_beams={beams} cannot be combined with {other}."
        ),
        hint=Words(zh="请去掉其中一个。", en="Leave one of them out."),
    )


def check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    """Raise ``WrongUsageError`` unless ``value`` is one of ``choices``."""
    if value not in choices:
        listed = ", ".join(repr(choice) for choice in choices)
        raise WrongUsageError(
            Words(zh=f"{name} 不能是 {value!r}。", en=f"{name} cannot be {value!r}."),
            hint=Words(zh=f"可用的值：{listed}", en=f"It is one of: {listed}"),
        )


def check_text(name: str, value: Any) -> None:
    """Raise ``WrongUsageError`` unless ``value`` is a text or ``None``."""
    if value is not None and not isinstance(value, str):
        raise WrongUsageError(
            Words(zh=f"{name} 必须是文字，而不是 {value!r}。", en=f"{name} is a text, not {value!r}."),
            hint=Words(zh="请给一段文字，或不指定。", en="Give a text, or leave it out."),
        )


def cannot_be(problem: ValidationError) -> WrongUsageError:
    """The error for a field that pydantic would not take, without what a secret field was given."""
    first = problem.errors()[0]
    name = ".".join(map(str, first["loc"]))
    given = "***" if "key" in name else repr(first["input"])
    if first["type"] == "missing":
        return WrongUsageError(
            Words(zh=f"缺少参数 {name}。", en=f"The argument {name} is missing."),
            hint=Words(zh=f"请给出 {name}=…", en=f"Give {name}=…"),
        )
    return WrongUsageError(
        Words(zh=f"{name} 不能是 {given}。", en=f"{name} cannot be {given}."),
        hint=Words(zh=f"要求：{first['msg']}", en=f"What it takes: {first['msg']}"),
    )


def wrong_format(checkpoint: Checkpoint, used: str) -> CheckpointError:
    """The error for a checkpoint handed to the other format's class, which is called ``used``."""
    right = used.removesuffix("GGUF").removesuffix("HF") + {"gguf": "GGUF", "hf": "HF"}[checkpoint.format]
    what_zh, what_en = {
        "gguf": ("GGUF 文件", "a GGUF file"),
        "hf": ("transformers 模型目录", "a transformers folder"),
    }[checkpoint.format]
    return CheckpointError(
        Words(zh=f"{checkpoint.path} 是{what_zh}。", en=f"{checkpoint.path} is {what_en}."),
        hint=Words(
            zh=f"请使用 {right}，或用 chat_alpaca(路径) 自动选择。",
            en=f"Use {right}, or chat_alpaca(path), which chooses by itself.",
        ),
    )


def draft_of_another_format(path: Path, wanted: str) -> WrongUsageError:
    """The error for a draft model that is not of the format ``wanted`` ("gguf" or "hf"), which the model is of."""
    kind_zh, kind_en = {"gguf": ("GGUF 文件", "a GGUF file"), "hf": ("transformers 目录", "a transformers folder")}[
        wanted
    ]
    return WrongUsageError(
        Words(
            zh=f"草稿模型 {path} 与模型的格式不同：应为{kind_zh}。",
            en=f"The draft model {path} is of another format than the model: it has to be {kind_en}.",
        ),
        hint=_leave_the_draft_out(),
    )


def draft_of_another_vocabulary(path: Path, name: str, own: object, other: object) -> WrongUsageError:
    """The error for a draft model to which ids mean something else: ``name`` is ``own`` for the model."""
    return WrongUsageError(
        Words(
            zh=f"草稿模型 {path} 的词表与模型不同：{name} 为 {other!r}，模型为 {own!r}。",
            en=f"The draft model {path} has another vocabulary: its {name} is {other!r}, the model's {own!r}.",
        ),
        hint=_leave_the_draft_out(),
    )


def draft_is_the_model(path: Path) -> WrongUsageError:
    """The error for a model that is to guess for itself."""
    return WrongUsageError(
        Words(zh=f"草稿模型 {path} 就是模型本身。", en=f"The draft model {path} is the model itself."),
        hint=_leave_the_draft_out(),
    )


def no_room_for_draft(need: str, draft: str, available: str) -> NotEnoughMemoryError:
    """The error for a model and its draft (``draft``) that together need more memory than there is."""
    return NotEnoughMemoryError(
        Words(
            zh=f"模型和草稿模型 {draft} 一共需要 {need} 内存，只有 {available} 可用。",
            en=f"The model and its draft model {draft} need {need} of memory together; {available} are available.",
        ),
        hint=Words(
            zh="请使用更小的窗口，或去掉 draft_model_path。",
            en="Use a smaller window, or leave draft_model_path out.",
        ),
    )


def _leave_the_draft_out() -> Words:
    return Words(
        zh="请使用同一代、同一格式的小模型（如 chinese-alpaca-2-1.3b），或去掉 draft_model_path。",
        en="Use a small model of the same generation and format (chinese-alpaca-2-1.3b, say), "
        "or leave draft_model_path out.",
    )
