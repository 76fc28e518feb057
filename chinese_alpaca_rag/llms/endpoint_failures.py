"""What can be wrong with a model server, in words that say what to do next."""

from __future__ import annotations

import json
import math
import time
import unicodedata
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final

from chinese_alpaca_rag.errors import EndpointError, WrongUsageError
from chinese_alpaca_rag.language import Words

if TYPE_CHECKING:
    from chinese_alpaca_rag.llms.endpoint_client import EndpointClient

_LONGEST_WORDS: Final = 300


def unreachable(address: str, problem: Exception, client: EndpointClient) -> EndpointError:
    """The error for a connection that fails: refused, silent for too long, or cut."""
    import httpx

    if isinstance(problem, httpx.ConnectTimeout):
        zh, en = (
            f"{address} 在 {client.connect_timeout:g} 秒内没有接受连接。",
            f"{address} did not take the connection within {client.connect_timeout:g} seconds.",
        )
    elif isinstance(problem, httpx.TimeoutException):
        return EndpointError(
            Words(
                zh=f"{address} 在 {client.read_timeout:g} 秒内没有任何回应。",
                en=f"{address} was silent for {client.read_timeout:g} seconds.",
            ),
            hint=Words(
                zh="长提示词需要较长时间：请增大 timeout，或减少并发请求。",
                en="Long prompts take their time: raise timeout, or send fewer requests at once.",
            ),
        )
    elif isinstance(problem, httpx.ConnectError):
        zh, en = (
            f"无法连接 {address}：{readable(str(problem))}",
            f"{address} cannot be reached: {readable(str(problem))}",
        )
    else:
        zh, en = (
            f"与 {address} 的连接中断：{readable(str(problem))}",
            f"The connection to {address} broke: {readable(str(problem))}",
        )
    return EndpointError(
        Words(zh=zh, en=en),
        hint=Words(
            zh="请检查 base_url 以及服务是否已启动；启动命令：alpaca-rag models command 模型 --engine llama-server",
            en="Check base_url and that the server runs; the command that starts one: "
            "alpaca-rag models command MODEL --engine llama-server",
        ),
    )


class RefusedRequestError(EndpointError):
    """The server answered a request with an HTTP status of refusal (``status``)."""

    status = 0


_STATUS_HINTS: Final[dict[int, Words]] = {
    401: Words(zh="服务需要密钥：api_key=…", en="The server wants a key: api_key=…"),
    403: Words(zh="服务需要密钥：api_key=…", en="The server wants a key: api_key=…"),
    404: Words(
        zh="请检查 base_url 和 served_model；服务必须提供 /v1/completions。",
        en="Check base_url and served_model; the server has to offer /v1/completions.",
    ),
    429: Words(zh="服务正忙，请稍后再试。", en="The server has too much to do: try again later."),
    503: Words(zh="服务可能仍在加载模型，请稍后再试。", en="The server may still be loading: try again later."),
}


def bad_status(address: str, path: str, status: int, said: str) -> RefusedRequestError:
    """The error for an HTTP status other than 200."""
    colon = "：" if said else ""
    if 300 <= status < 400:
        hint = Words(zh="服务转到了别处：请直接给出最终的地址。", en="The server points elsewhere: give that address.")
    elif status in _STATUS_HINTS:
        hint = _STATUS_HINTS[status]
    elif status >= 500:
        hint = Words(zh="请查看模型服务的日志。", en="Look into the model server's log.")
    else:
        hint = Words(
            zh="请检查服务的种类（dialect）和版本，并查看它的日志。",
            en="Check what kind of server it is (dialect) and its version, and look into its log.",
        )
    error = RefusedRequestError(
        Words(
            zh=f"{address}{path} 返回 HTTP {status}{colon}{said}",
            en=f"{address}{path} answers HTTP {status}{': ' if said else ''}{said}",
        ),
        hint=hint,
    )
    error.status = status
    return error


def damaged(address: str, what: str) -> EndpointError:
    """The error for an answer that makes no sense; ``what`` it was."""
    place = f"{address}: " if address else ""
    return EndpointError(
        Words(
            zh=f"模型服务的回答无法理解：{place}{what}", en=f"The model server's answer makes no sense: {place}{what}"
        ),
        hint=Words(
            zh="请检查 base_url 指向的确实是 OpenAI 兼容的模型服务，以及它的版本。",
            en="Check that base_url is an OpenAI-compatible model server, and its version.",
        ),
    )


def too_long(limit: int) -> EndpointError:
    """The error for an answer of more than ``limit`` bytes."""
    return damaged("", f"more than {limit:,} bytes")


def cut_off(address: str) -> EndpointError:
    """The error for a stream that ends before its answer does."""
    return EndpointError(
        Words(zh=f"{address} 的回答没有结束就断了。", en=f"{address} ended its answer half-way."),
        hint=Words(
            zh="请重试；llama-cpp-python 的服务须用 --interrupt_requests false 启动，否则新请求会打断旧请求。",
            en="Try again; llama-cpp-python's server has to be started with --interrupt_requests false, "
            "or a new request ends the one before.",
        ),
    )


def other_token_count(sent: int, counted: int, served: str) -> EndpointError:
    """The error for a server that counts other tokens in the prompt than were sent."""
    return EndpointError(
        Words(
            zh=f"发送了 {sent} 个词元，但服务（{served}）数出 {counted} 个：它的分词器不同，或加载了别的模型。",
            en=f"{sent} tokens were sent, but the server ({served}) counts {counted}: "
            "it tokenises otherwise, or serves another model.",
        ),
        hint=Words(
            zh="请核对服务加载的模型；最好使用接受词元 id 的服务：llama-server 或 vLLM。",
            en="Check which model it serves; best use a server that takes token ids: llama-server or vLLM.",
        ),
    )


def not_an_address(base_url: str) -> WrongUsageError:
    """The error for a ``base_url`` that is none."""
    return WrongUsageError(
        Words(
            zh=f"base_url 不是 http 或 https 地址：{readable(base_url)!r}",
            en=f"base_url is no http or https address: {readable(base_url)!r}",
        ),
        hint=Words(zh="例如 base_url='http://127.0.0.1:8080'", en="For example: base_url='http://127.0.0.1:8080'"),
    )


def not_offered(what: Words, engine: str, instead: Sequence[str]) -> WrongUsageError:
    """The error for something that this kind of server cannot do."""
    names = ", ".join(instead)
    return WrongUsageError(
        Words(zh=f"{engine} 服务不支持{what.zh}。", en=f"A {engine} server does not offer {what.en}."),
        hint=Words(
            zh=f"请去掉这项设置，或改用：{names}" if names else "请去掉这项设置，或使用本地模型。",
            en=f"Leave it out, or use: {names}" if names else "Leave it out, or use a local model.",
        ),
    )


def server_says(value: Any) -> str:
    """The message in a server's error document, whichever of the usual shapes it has."""
    for _ in range(3):
        if not isinstance(value, dict):
            break
        value = next((value[key] for key in ("error", "message", "detail") if value.get(key)), "")
    return readable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def readable(text: str) -> str:
    """``text`` on one line, without control and direction characters, cut to a few hundred characters."""
    clean = "".join(" " if unicodedata.category(character).startswith(("C", "Z")) else character for character in text)
    clean = " ".join(clean.split())
    return clean if len(clean) <= _LONGEST_WORDS else f"{clean[:_LONGEST_WORDS]}…"


def retry_after(value: str | None) -> float | None:
    """Seconds in a Retry-After header (RFC 9110, 10.2.3): a number or a date; ``None`` where it says nothing."""
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None
