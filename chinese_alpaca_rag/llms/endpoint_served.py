"""Finding out what a model server is and what it serves, once, before anything is asked of it."""

from __future__ import annotations

import re
import shlex
import threading
from dataclasses import dataclass
from typing import Any, Final

from chinese_alpaca_rag.errors import EndpointError
from chinese_alpaca_rag.family.catalogue import ModelCard, match_name
from chinese_alpaca_rag.family.rope import RopePlan
from chinese_alpaca_rag.family.serving import serving_command
from chinese_alpaca_rag.family.tokens import Tokenizer
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.llms.endpoint_client import EndpointClient
from chinese_alpaca_rag.llms.endpoint_dialects import DIALECTS, Dialect, DialectName
from chinese_alpaca_rag.llms.endpoint_failures import damaged, readable

_MOST_MODELS: Final = 1000
# What a file's name has beside the model's.
_FILE_SUFFIX: Final = re.compile(r"(?:\.gguf|[.\-_](?:i?q\d\w*|b?f(?:16|32)|fp16))$", re.IGNORECASE)


@dataclass(frozen=True)
class Served:
    """One model at a server.

    ``window`` (tokens) and ``vocabulary`` (ids) are ``None`` where the server does not say; ``version``
    is empty where it does not. ``adds_bos``: it puts BOS before text by itself; ``shows_its_cutting``:
    it can be asked what ids it makes of a text.
    """

    name: str
    dialect: Dialect
    window: int | None = None
    vocabulary: int | None = None
    version: tuple[int, ...] = ()
    adds_bos: bool = True
    shows_its_cutting: bool = False


@dataclass(frozen=True)
class Wanted:
    """What the server is expected to serve; ``name`` and ``dialect`` where the user says them."""

    card: ModelCard
    plan: RopePlan
    tokenizer: Tokenizer
    name: str | None
    dialect: DialectName | None


def find_served(client: EndpointClient, wanted: Wanted) -> Served:
    """The model to ask, checked against what is ``wanted``. Raises ``EndpointError``."""
    rows = _listed(client)
    row = _chosen(client, rows, wanted)
    dialect = DIALECTS[wanted.dialect] if wanted.dialect else _dialect(rows)
    served = _described(client, str(row["id"]), dialect, row)
    _check(client, served, wanted)
    return _with_cutting(client, served, wanted.tokenizer) if not dialect.takes_ids else served


def _listed(client: EndpointClient) -> list[dict[str, Any]]:
    document = client.get("/v1/models", optional=True)
    if document is None:
        return []
    rows = document.get("data")
    if (
        not isinstance(rows, list)
        or len(rows) > _MOST_MODELS
        or not all(isinstance(row, dict) and isinstance(row.get("id"), str) for row in rows)
    ):
        raise damaged(client.address, "/v1/models is no list of models")
    return rows


def _chosen(client: EndpointClient, rows: list[dict[str, Any]], wanted: Wanted) -> dict[str, Any]:
    names = ", ".join(readable(row["id"]) for row in rows[:10])
    if wanted.name is not None:
        # A server that lists nothing may still serve what it is asked for.
        row = next((row for row in rows if wanted.name in (row["id"], *_aliases(row))), None)
        if rows and row is None:
            raise _no_such_model(
                client, Words(zh=f"没有名为 {wanted.name} 的模型", en=f"serves no {wanted.name}"), names
            )
        return {**(row or {}), "id": wanted.name}
    if len(rows) != 1:
        count = len(rows)
        raise _no_such_model(client, Words(zh=f"列出了 {count} 个模型", en=f"lists {count} models"), names)
    return rows[0]


def _aliases(row: dict[str, Any]) -> list[Any]:
    aliases = row.get("aliases")
    return aliases if isinstance(aliases, list) else []


def _dialect(rows: list[dict[str, Any]]) -> Dialect:
    owners = {row.get("owned_by") for row in rows if isinstance(row.get("owned_by"), str)}
    return next((row for row in DIALECTS.values() if row.owner and row.owner in owners), DIALECTS["unknown"])


def _described(client: EndpointClient, name: str, dialect: Dialect, row: dict[str, Any]) -> Served:
    meta = row.get("meta") if isinstance(row.get("meta"), dict) else {}
    assert isinstance(meta, dict)  # noqa: S101
    window, vocabulary = _positive(row.get("max_model_len")), None
    version: tuple[int, ...] = ()
    if dialect.name == "llama-server":
        vocabulary = _positive(meta.get("n_vocab"))
        window = _positive(meta.get("n_ctx")) or _window_in_props(client)
    elif dialect.name == "vllm":
        document = client.get("/version", optional=True) or {}
        version = tuple(int(number) for number in re.findall(r"\d{1,6}", str(document.get("version", "")))[:2])
    return Served(name, dialect, window, vocabulary, version)


def _window_in_props(client: EndpointClient) -> int | None:
    """The slot's window: older versions of llama-server tell it here only."""
    settings = (client.get("/props", optional=True) or {}).get("default_generation_settings")
    return _positive(settings.get("n_ctx")) if isinstance(settings, dict) else None


def _positive(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _with_cutting(client: EndpointClient, served: Served, tokenizer: Tokenizer) -> Served:
    tokens = server_cutting(client, served.name, "a", threading.Event())
    if tokens is None:
        return served
    return Served(
        served.name,
        served.dialect,
        served.window,
        served.vocabulary,
        served.version,
        adds_bos=tokens[:1] == [tokenizer.bos_id],
        shows_its_cutting=True,
    )


def server_cutting(client: EndpointClient, name: str, text: str, cancelled: threading.Event) -> list[int] | None:
    """The ids that llama-cpp-python's server makes of ``text``; ``None`` where it cannot be asked."""
    document = client.post("/extras/tokenize", {"model": name, "input": text}, cancelled, optional=True)
    if document is None:
        return None
    tokens = document.get("tokens")
    if not isinstance(tokens, list) or not all(type(token) is int for token in tokens):
        raise damaged(client.address, "/extras/tokenize gives no list of ids")
    return tokens


def _check(client: EndpointClient, served: Served, wanted: Wanted) -> None:
    known = match_name(_model_name(served.name))
    expected = match_name(wanted.card.name)
    if known is not None and known.name != (expected or wanted.card).name:
        raise EndpointError(
            Words(
                zh=f"{client.address} 提供的是 {readable(served.name)}，而不是 {wanted.card.name}。",
                en=f"{client.address} serves {readable(served.name)}, not {wanted.card.name}.",
            ),
            hint=Words(
                zh=f"请使用 model={known.name!r}，或启动另一个服务：{_command(served, wanted)}",
                en=f"Use model={known.name!r}, or start another server: {_command(served, wanted)}",
            ),
        )
    pieces = wanted.tokenizer.vocabulary_size
    if served.vocabulary is not None and not 0 <= served.vocabulary - pieces < 128:
        raise EndpointError(
            Words(
                zh=f"{readable(served.name)} 的词表有 {served.vocabulary} 个词，而分词器有 {pieces} 个。",
                en=f"{readable(served.name)} has a vocabulary of {served.vocabulary}, the tokenizer one of {pieces}.",
            ),
            hint=Words(
                zh="它们属于不同的模型：请核对 base_url 和 tokenizer_path。",
                en="They belong to different models: check base_url and tokenizer_path.",
            ),
        )
    if served.window is not None and served.window < wanted.plan.window:
        raise EndpointError(
            Words(
                zh=f"{readable(served.name)} 以 {served.window} 个词元的窗口启动，需要 {wanted.plan.window} 个。",
                en=f"{readable(served.name)} was started with a window of {served.window} tokens; "
                f"{wanted.plan.window} are wanted.",
            ),
            hint=Words(zh=f"请这样启动：{_command(served, wanted)}", en=f"Start it so: {_command(served, wanted)}"),
        )


def _model_name(served: str) -> str:
    """A served name or path as a model's: the last part, without what files have beside it."""
    name = served.strip().rstrip("/")
    if name.lower().endswith(".gguf") or name.count("/") > 1:
        name = name.rpartition("/")[2]
    shorter = _FILE_SUFFIX.sub("", name)
    while shorter != name:
        name, shorter = shorter, _FILE_SUFFIX.sub("", shorter)
    return name


def _command(served: Served, wanted: Wanted) -> str:
    engine = served.dialect.engine or "llama-server"
    return shlex.join(serving_command(wanted.card, wanted.plan.window, engine=engine, alpha=_alpha(wanted.plan)))


def _alpha(plan: RopePlan) -> float | None:
    return plan.alpha if plan.alpha != 1.0 else None


def _no_such_model(client: EndpointClient, what: Words, names: str) -> EndpointError:
    return EndpointError(
        Words(zh=f"{client.address} {what.zh}。", en=f"{client.address} {what.en}."),
        hint=Words(
            zh=f"用 served_model 指定一个：{names or '（服务没有列出）'}",
            en=f"Name one as served_model: {names or '(it lists none)'}",
        ),
    )
