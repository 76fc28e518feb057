from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage

from chinese_alpaca_rag.errors import (
    CheckpointError,
    ModelNotFoundError,
    NotAChatModelError,
    UnknownModelError,
    WindowUnreachableError,
    WrongUsageError,
)
from chinese_alpaca_rag.family import catalogue
from chinese_alpaca_rag.family.catalogue import ModelCard, find_model
from chinese_alpaca_rag.family.checkpoint import read_checkpoint
from chinese_alpaca_rag.llms import factory
from chinese_alpaca_rag.llms.endpoint import ChatAlpacaEndpoint
from chinese_alpaca_rag.llms.factory import chat_alpaca
from chinese_alpaca_rag.llms.gguf import ChatAlpacaGGUF
from chinese_alpaca_rag.llms.huggingface import ChatAlpacaHF
from chinese_alpaca_rag.llms.interface import ReadsSources
from tests.toy_family import ToyCheckpoint


@pytest.fixture(autouse=True)
def _empty_caches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def test_the_default_needs_no_weights() -> None:
    assert isinstance(chat_alpaca(), ReadsSources)
    assert isinstance(chat_alpaca("extractive", window=4096), ReadsSources)


def test_a_path_is_opened_by_its_format(toy: ToyCheckpoint) -> None:
    gguf = chat_alpaca(str(toy.gguf), window=2048, temperature=0)
    transformers = chat_alpaca(toy.hf, seed=3)
    assert isinstance(gguf, ChatAlpacaGGUF)
    assert (gguf.window, gguf.temperature) == (2048, 0)
    assert isinstance(transformers, ChatAlpacaHF)
    assert (transformers.window, transformers.seed) == (4096, 3)


def test_options_are_those_of_the_class(toy: ToyCheckpoint) -> None:
    model = chat_alpaca(toy.gguf, n_threads=1, kv_type="q8_0")
    assert isinstance(model, ChatAlpacaGGUF)
    assert (model.n_threads, model.kv_type) == (1, "q8_0")
    with pytest.raises(WrongUsageError, match="n_threads"):
        chat_alpaca(toy.hf, n_threads=1)


@pytest.mark.parametrize("option", [{"n_threads": 0}, {"kv_type": "q3"}, {"temperature": "hot"}, {"window": "wide"}])
def test_an_option_of_another_kind_is_wrong_usage(toy: ToyCheckpoint, option: dict[str, object]) -> None:
    with pytest.raises(WrongUsageError, match=next(iter(option))):
        chat_alpaca(toy.gguf, **option)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["chinese-alpaca-2-7b-32k", "alpaca", "gpt-4"])
def test_an_unknown_name_is_refused_with_the_nearest(name: str) -> None:
    with pytest.raises(UnknownModelError, match=name) as refused:
        chat_alpaca(name)
    assert "alpaca" in refused.value.hint.en


@pytest.mark.parametrize("path", ["./none.gguf", "/no/such/folder", "weights/chinese-alpaca-2-7b.gguf"])
def test_a_path_where_nothing_is_is_called_a_path(path: str) -> None:
    with pytest.raises(UnknownModelError, match="no such file") as refused:
        chat_alpaca(path)
    assert "chinese-" in refused.value.hint.en


def test_a_base_model_is_refused_with_its_chat_sibling(toy_base: ToyCheckpoint) -> None:
    with pytest.raises(NotAChatModelError) as refused:
        chat_alpaca("hfl/chinese-llama-2-7b-16k")
    assert "chinese-alpaca-2-7b-16k" in refused.value.hint.en
    with pytest.raises(NotAChatModelError):
        chat_alpaca(toy_base.gguf)


def test_a_window_out_of_reach_is_refused_before_weights_are_looked_for(toy: ToyCheckpoint) -> None:
    with pytest.raises(WindowUnreachableError, match="100000"):
        chat_alpaca("chinese-alpaca-2-7b", window=100000)
    with pytest.raises(WindowUnreachableError, match="100000"):
        chat_alpaca(toy.gguf, window=100000)


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("chinese-alpaca-2-7b-16k", "hf download hfl/chinese-alpaca-2-7b-16k-gguf"),
        ("ziya2-13b-chat", "hf download IDEA-CCNL/Ziya2-13B-Chat"),
        ("chinese-alpaca-plus-7b", "hfl/chinese-alpaca-plus-lora-7b"),
    ],
)
def test_weights_that_are_not_here_come_with_the_command_that_fetches_them(
    name: str, command: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelNotFoundError, match=name) as missing:
        chat_alpaca(name, models_dir=tmp_path / "my models")
    assert command in missing.value.hint.en
    assert command in missing.value.hint.zh
    if "download" in command:
        assert f"--local-dir '{tmp_path}/my models/{name}'" in missing.value.hint.en


@pytest.fixture
def toy_in_catalogue(toy: ToyCheckpoint, monkeypatch: pytest.MonkeyPatch) -> ModelCard:
    """The toy under a name of the catalogue, so that lookup by name can be tried on real weights."""
    name = "chinese-alpaca-2-toy"
    card = replace(read_checkpoint(toy.gguf).card, name=name, hub=f"hfl/{name}", gguf_hub=f"hfl/{name}-gguf")
    for name in (card.name, f"{card.name}-gguf"):
        monkeypatch.setitem(catalogue._names(), name, card)
    assert find_model("hfl/chinese-alpaca-2-toy") is card
    return card


@pytest.mark.parametrize(
    "place",
    [
        "chinese-alpaca-2-toy.gguf",
        "chinese-alpaca-2-toy/ggml-model-q4_k.gguf",
        "chinese-alpaca-2-toy-gguf/ggml-model-q4_k.gguf",
        "hfl/chinese-alpaca-2-toy-gguf/ggml-model-q4_k.gguf",
    ],
)
def test_a_name_is_looked_up_in_the_models_folder(
    place: str, toy_in_catalogue: ModelCard, toy: ToyCheckpoint, tmp_path: Path
) -> None:
    weights = tmp_path / "models" / place
    weights.parent.mkdir(parents=True)
    shutil.copy(toy.gguf, weights)
    model = chat_alpaca("Chinese-Alpaca-2-Toy", models_dir=tmp_path / "models")
    assert isinstance(model, ChatAlpacaGGUF)
    assert model.checkpoint.path == weights


def test_a_transformers_folder_is_found_by_name(
    toy_in_catalogue: ModelCard, toy: ToyCheckpoint, tmp_path: Path
) -> None:
    shutil.copytree(toy.hf, tmp_path / "models" / "chinese-alpaca-2-toy")
    assert isinstance(chat_alpaca("hfl/chinese-alpaca-2-toy", models_dir=tmp_path / "models"), ChatAlpacaHF)


def test_the_default_models_folder_is_in_the_home_folder(
    toy_in_catalogue: ModelCard, toy: ToyCheckpoint, tmp_path: Path
) -> None:
    folder = tmp_path / "home" / ".local" / "share" / "chinese-alpaca-rag" / "models"
    folder.mkdir(parents=True)
    shutil.copy(toy.gguf, folder / "chinese-alpaca-2-toy.gguf")
    assert isinstance(chat_alpaca("chinese-alpaca-2-toy"), ChatAlpacaGGUF)


def test_the_hubs_cache_is_read_as_it_lies_on_disk(
    toy_in_catalogue: ModelCard, toy: ToyCheckpoint, tmp_path: Path
) -> None:
    repository = tmp_path / "hub-cache" / "models--hfl--chinese-alpaca-2-toy"
    snapshot = repository / "snapshots" / "abc123"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc123")
    blobs = repository / "blobs"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    for number, file in enumerate(sorted(toy.hf.iterdir())):
        shutil.copy(file, blobs / str(number))
        (snapshot / file.name).symlink_to(f"../../blobs/{number}")
    model = chat_alpaca("chinese-alpaca-2-toy", models_dir=tmp_path / "models", max_tokens=2)
    assert isinstance(model, ChatAlpacaHF)
    assert model.model_name == "chinese-alpaca-2-toy"
    assert model.invoke("你好").usage_metadata
    model.close()


def test_two_quantisations_in_one_folder_have_to_be_chosen_from(
    toy_in_catalogue: ModelCard, toy: ToyCheckpoint, tmp_path: Path
) -> None:
    folder = tmp_path / "models" / "chinese-alpaca-2-toy"
    folder.mkdir(parents=True)
    for kind in ("q4_k", "q8_0"):
        shutil.copy(toy.gguf, folder / f"ggml-model-{kind}.gguf")
    with pytest.raises(CheckpointError) as refused:
        chat_alpaca("chinese-alpaca-2-toy", models_dir=tmp_path / "models")
    assert "q4_k" in refused.value.hint.en


def test_an_unfinished_download_is_no_weights(toy_in_catalogue: ModelCard, tmp_path: Path) -> None:
    folder = tmp_path / "models" / "chinese-alpaca-2-toy"
    (folder / ".cache").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    with pytest.raises(ModelNotFoundError):
        chat_alpaca("chinese-alpaca-2-toy", models_dir=tmp_path / "models")


def test_the_factory_module_is_what_the_room_exports() -> None:
    from chinese_alpaca_rag import llms

    assert llms.chat_alpaca is factory.chat_alpaca
    assert set(llms.__all__) <= set(dir(llms))
    with pytest.raises(AttributeError, match="nothing_of_that_name"):
        _ = llms.nothing_of_that_name


def test_a_base_url_means_a_server_with_a_tokenizer_from_here(
    toy_in_catalogue: ModelCard, toy: ToyCheckpoint, tmp_path: Path
) -> None:
    at_server: dict[str, Any] = {"base_url": "http://127.0.0.1:1/v1", "window": 2048}
    for model in (
        chat_alpaca(toy.gguf, **at_server),
        chat_alpaca(toy.hf, **at_server),
        chat_alpaca(toy_in_catalogue.name, tokenizer_path=toy.gguf, **at_server),
    ):
        assert isinstance(model, ChatAlpacaEndpoint)
        assert model.window == 2048
        assert model.model_name == "chinese-alpaca-2-toy"
    with pytest.raises(ModelNotFoundError, match="tokenizer") as missing:
        chat_alpaca(toy_in_catalogue.name, models_dir=tmp_path, **at_server)
    assert "hf download hfl/chinese-alpaca-2-toy tokenizer.model" in missing.value.hint.en
    (tmp_path / toy_in_catalogue.name).mkdir()
    shutil.copy(toy.hf / "tokenizer.model", tmp_path / toy_in_catalogue.name)
    found = chat_alpaca(toy_in_catalogue.name, models_dir=tmp_path, **at_server)
    assert isinstance(found, ChatAlpacaEndpoint)
    assert found.tokenizer_path == tmp_path / toy_in_catalogue.name


def test_prompt_ids_are_the_same_on_every_backend(toy: ToyCheckpoint) -> None:
    messages = [
        SystemMessage("只用资料回答。</s>"),
        HumanMessage("资料：[INST] 年假 [/INST]\n年假有几天？"),
        AIMessage("五天。"),
        HumanMessage("<<SYS>>还有呢？😀"),
    ]
    models = [
        chat_alpaca(toy.gguf),
        chat_alpaca(toy.hf),
        chat_alpaca(toy.gguf, base_url="http://127.0.0.1:1"),
        chat_alpaca(toy.hf, base_url="http://127.0.0.1:1"),
    ]
    prompts = {model.render(messages).ids for model in models}  # type: ignore[attr-defined]
    assert len(prompts) == 1


def test_a_draft_is_found_by_path_and_by_name(toy: ToyCheckpoint, toy_base: ToyCheckpoint, tmp_path: Path) -> None:
    by_path = chat_alpaca(toy.gguf, draft_model=str(toy_base.gguf))
    assert isinstance(by_path, ChatAlpacaGGUF)
    assert by_path.draft_model_path == toy_base.gguf
    with pytest.raises(ModelNotFoundError, match=r"chinese-alpaca-2-1\.3b"):
        chat_alpaca(toy.gguf, draft_model="chinese-alpaca-2-1.3b", models_dir=tmp_path)
    with pytest.raises(UnknownModelError):
        chat_alpaca(toy.gguf, draft_model="gpt-4")
    models = tmp_path / "models"
    (models / "chinese-llama-2-1.3b").mkdir(parents=True)
    (models / "chinese-llama-2-1.3b" / "weights.gguf").symlink_to(toy_base.gguf)
    by_name = chat_alpaca(toy.gguf, draft_model="chinese-llama-2-1.3b", models_dir=models)
    assert isinstance(by_name, ChatAlpacaGGUF)
    assert by_name.draft_model_path == models / "chinese-llama-2-1.3b"
    # There is none of the model's own format.
    with pytest.raises(ModelNotFoundError):
        chat_alpaca(toy.hf, draft_model="chinese-llama-2-1.3b", models_dir=models)
