"""``ChatAlpacaEndpoint``: the family's chat models behind an OpenAI-compatible server."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from pydantic import Field, PrivateAttr, SecretStr, field_validator

from chinese_alpaca_rag.errors import CheckpointError, WrongUsageError
from chinese_alpaca_rag.family.catalogue import ModelCard, find_model
from chinese_alpaca_rag.family.checkpoint_tokenizer import folder_tokenizer, gguf_tokenizer
from chinese_alpaca_rag.family.tokens import Tokenizer, TokenizerKind
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.llms.chat import ChatAlpaca
from chinese_alpaca_rag.llms.endpoint_answer import EndpointAnswer, Server
from chinese_alpaca_rag.llms.endpoint_client import EndpointClient, server_address
from chinese_alpaca_rag.llms.endpoint_dialects import DialectName
from chinese_alpaca_rag.llms.endpoint_served import Served, Wanted, find_served
from chinese_alpaca_rag.llms.headers import Fingerprint, fingerprint, header
from chinese_alpaca_rag.llms.request import Request

#: The longest silence, in seconds, when a server is asked what it serves: it evaluates nothing for that.
LOOK_UP_TIMEOUT: Final = 15.0


class ChatAlpacaEndpoint(ChatAlpaca):
    """A model of the family at a server, as a LangChain chat model: the server evaluates, everything else is here.

    ::

        model = ChatAlpacaEndpoint(
            base_url="http://127.0.0.1:8080",
            model="chinese-alpaca-2-7b-16k",
            tokenizer_path="chinese-alpaca-2-7b-16k/tokenizer.model",
        )

    Messages become ids by the model's own template and tokenizer, and ids are what vLLM and llama-server are
    sent. llama-cpp-python's server takes text alone and reads control tokens in it: there marks from outside
    are written full-width (``response_metadata["rewritten_marks"]`` counts them). The server must be started
    with the window's RoPE scaling: ``alpaca-rag models command NAME --window N --engine …`` prints how.

    Making one opens no connection. The repetition penalty is the server's: vLLM's covers the whole prompt,
    llama-server's the last 64 tokens before and in the answer, llama-cpp-python's the answer.
    """

    base_url: str = Field(frozen=True)
    """The server's address, with or without ``/v1``."""
    tokenizer_path: Path = Field(frozen=True)
    """A ``tokenizer.model`` or ``tokenizer.json``, a transformers folder or a GGUF file; weights are not read."""
    model: str | None = Field(default=None, frozen=True)
    """The model's name in the catalogue; needed where ``tokenizer_path`` does not say which model it belongs to."""
    served_model: str | None = Field(default=None, frozen=True)
    """The model's name at the server; by default the only one that it lists."""
    dialect: DialectName | None = Field(default=None, frozen=True)
    """The kind of server; by default it is asked."""
    api_key: SecretStr | None = Field(default=None, frozen=True)
    """Sent as a bearer token."""
    timeout: float = Field(default=600.0, gt=0, frozen=True)
    """The longest silence of the server, in seconds; a long prompt is evaluated in silence."""
    connect_timeout: float = Field(default=10.0, gt=0, frozen=True)
    """The longest wait for a connection, in seconds."""
    max_retries: int = Field(default=2, ge=0, le=10, frozen=True)
    """How often a request is made again of which nothing was begun."""
    verify_tls: bool = Field(default=True, frozen=True)
    """Whether the certificate of an https server is checked."""
    use_proxies: bool = Field(default=False, frozen=True)
    """Whether proxies named by the environment are used; prompts then pass through them."""

    _served: Served | None = PrivateAttr(default=None)

    @field_validator("tokenizer_path")
    @classmethod
    def _home_is_known(cls, path: Path) -> Path:
        return path.expanduser()

    @classmethod
    def _card_of(cls, values: Mapping[str, Any]) -> ModelCard | None:
        name, path = values.get("model"), values.get("tokenizer_path")
        if isinstance(name, str):
            return find_model(name)
        if not isinstance(path, str | Path):
            return None
        path = Path(path).expanduser()
        if path.exists() and not _is_checkpoint(path):
            raise _nameless(path)
        return header(path).card

    def _check_model(self) -> None:
        server_address(self.base_url)
        super()._check_model()
        rows, pieces = self.card.vocabulary, self.tokenizer.vocabulary_size
        if not 0 <= rows - pieces < 128:
            raise _other_tokenizer(self.card, self.tokenizer_path, pieces)

    # What the model is.

    @property
    def card(self) -> ModelCard:
        """What is known of the model."""
        return find_model(self.model) if self.model is not None else header(self.tokenizer_path).card

    @property
    def model_name(self) -> str:
        """The name in the catalogue, or the file's own."""
        return self.card.name

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's own tokenizer."""
        kind: TokenizerKind = "byte-pair" if self.card.generation == 3 else "sentencepiece"
        return _tokenizer(self.tokenizer_path, fingerprint(self.tokenizer_path), kind)

    @property
    def _llm_type(self) -> str:
        return "chinese-alpaca-rag-endpoint"

    def _identity(self) -> dict[str, Any]:
        return {
            **super()._identity(),
            "base_url": server_address(self.base_url),
            "served_model": self.served_model,
            "dialect": self.dialect,
            "tokenizer": fingerprint(self.tokenizer_path),
        }

    # Answering.

    def _answer_to(self, request: Request, cancelled: threading.Event) -> EndpointAnswer:
        server = Server(self._client(), self.served, self.tokenizer, self.card, self.window)
        return EndpointAnswer(request, server, cancelled)

    def served(self) -> Served:
        """What the server says it serves, asked once. Raises ``EndpointError`` where that is not what is wanted."""
        served = self._served
        if served is None:
            # Several threads may ask at once: better than one waiting for the other's silent server.
            wanted = Wanted(self.card, self._plan, self.tokenizer, self.served_model, self.dialect)
            self._served = served = find_served(self._client(LOOK_UP_TIMEOUT), wanted)
        return served

    def close(self) -> None:
        """Forget what was found out about the server; the next call asks it again."""
        self._served = None

    def _client(self, longest: float = math.inf) -> EndpointClient:
        return EndpointClient(
            server_address(self.base_url),
            api_key=self.api_key.get_secret_value() if self.api_key is not None else None,
            read_timeout=min(self.timeout, longest),
            connect_timeout=self.connect_timeout,
            retries=self.max_retries,
            verify=self.verify_tls,
            use_proxies=self.use_proxies,
        )


def _is_checkpoint(path: Path) -> bool:
    """Whether ``path`` says which model it is: a GGUF file, or a folder with weights' description."""
    if path.is_dir():
        return (path / "config.json").is_file() or any(path.glob("*.gguf"))
    return path.suffix.lower() == ".gguf"


@lru_cache(maxsize=4)
def _tokenizer(path: Path, _: Fingerprint, kind: TokenizerKind) -> Tokenizer:
    if path.is_dir() and not any((path / name).is_file() for name in ("tokenizer.model", "tokenizer.json")):
        path = header(path).path
    if path.is_dir():
        return folder_tokenizer(path, kind)
    if path.suffix.lower() == ".gguf":
        return gguf_tokenizer(path, kind)
    from chinese_alpaca_rag.family.byte_pair import BytePairTokenizer
    from chinese_alpaca_rag.family.tokenizer import FamilyTokenizer

    return BytePairTokenizer.from_file(path) if kind == "byte-pair" else FamilyTokenizer.from_file(path)


def _nameless(path: Path) -> WrongUsageError:
    return WrongUsageError(
        Words(
            zh=f"{path} 只是一个分词器，看不出属于哪个模型。",
            en=f"{path} is a tokenizer alone: it does not say which model it belongs to.",
        ),
        hint=Words(zh="请用 model 指定：alpaca-rag models list", en="Say which as model=…: alpaca-rag models list"),
    )


def _other_tokenizer(card: ModelCard, path: Path, pieces: int) -> CheckpointError:
    return CheckpointError(
        Words(
            zh=f"{path} 有 {pieces} 个词，{card.name} 有 {card.vocabulary} 个：两者不属于同一个模型。",
            en=f"{path} has {pieces} pieces, {card.name} {card.vocabulary}: they belong to different models.",
        ),
        hint=Words(zh="请使用该模型自带的分词器文件。", en="Use the tokenizer file that came with the model."),
    )
