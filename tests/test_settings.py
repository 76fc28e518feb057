"""Settings: defaults < file < environment < arguments, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chinese_alpaca_rag.errors import WindowUnreachableError, WrongUsageError
from chinese_alpaca_rag.settings import KEYS, SWITCHES, Settings, load_settings, parse_window


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(tmp_path)}


def write_settings(home: dict[str, str], text: str, encoding: str = "utf-8") -> Path:
    file = Path(home["HOME"]) / ".config" / "chinese-alpaca-rag" / "settings.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding=encoding)
    return file


def test_defaults_follow_the_xdg_folders(home: dict[str, str], tmp_path: Path) -> None:
    settings = load_settings(environment=home)
    assert settings == Settings(
        library=tmp_path / ".local/share/chinese-alpaca-rag/library",
        models=tmp_path / ".local/share/chinese-alpaca-rag/models",
        cache=tmp_path / ".cache/chinese-alpaca-rag",
        model="extractive",
        window=None,
        strategy="auto",
        draft=None,
        kv_type=None,
        prefixes=True,
        language="en",
    )
    assert settings.prefix_folder == tmp_path / ".cache/chinese-alpaca-rag/prefixes"
    assert settings.file is None
    assert settings.origins == {}
    elsewhere = load_settings(environment=home | {"XDG_DATA_HOME": "/data", "LANG": "zh_CN.UTF-8"})
    assert elsewhere.library == Path("/data/chinese-alpaca-rag/library")
    assert elsewhere.language == "zh"


def test_a_relative_xdg_folder_is_ignored_as_the_specification_says(home: dict[str, str], tmp_path: Path) -> None:
    assert load_settings(environment=home | {"XDG_DATA_HOME": "data"}).library.is_relative_to(tmp_path)
    assert load_settings(environment=home | {"XDG_CACHE_HOME": "cache"}).cache.is_relative_to(tmp_path)
    elsewhere = load_settings(environment=home | {"XDG_CACHE_HOME": "/var/cache/me"})
    assert elsewhere.prefix_folder == Path("/var/cache/me/chinese-alpaca-rag/prefixes")


def test_each_source_wins_over_the_one_before(home: dict[str, str]) -> None:
    file = write_settings(home, 'model = "from-file"\nwindow = 4096\nstrategy = "stuff"\n')
    settings = load_settings(environment=home)
    assert (settings.model, settings.window, settings.strategy) == ("from-file", 4096, "stuff")
    assert settings.file == file
    variables = home | {"ALPACA_RAG_MODEL": "from-environment", "ALPACA_RAG_WINDOW": "16K"}
    settings = load_settings(environment=variables)
    assert (settings.model, settings.window, settings.strategy) == ("from-environment", 16384, "stuff")
    settings = load_settings({"model": "from-arguments", "window": None}, environment=variables)
    assert (settings.model, settings.window, settings.strategy) == ("from-arguments", 16384, "stuff")
    assert settings.origins == {
        "model": "--model",
        "window": "ALPACA_RAG_WINDOW",
        "strategy": f"{file}: strategy",
    }


def test_paths_of_the_file_count_from_its_folder_and_others_from_here(
    home: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_settings(home, 'library = "library"\nmodels = "~/models"\nmodel = "here.gguf"\n')
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    settings = load_settings(environment=home)
    assert settings.library == file.parent / "library"
    assert settings.models == tmp_path / "models"
    assert settings.model == "here.gguf"  # no such file beside the settings: a name
    (file.parent / "here.gguf").touch()
    assert load_settings(environment=home).model == str(file.parent / "here.gguf")
    assert load_settings({"library": Path("other")}, environment=home).library == tmp_path / "other"


def test_the_file_may_be_elsewhere_and_begin_with_a_byte_order_mark(home: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('language = "zh"\n', encoding="utf-8-sig")
    settings = load_settings(environment=home | {"ALPACA_RAG_SETTINGS": str(file)})
    assert (settings.language, settings.file) == ("zh", file)


def test_the_embedded_reader_is_known_in_any_case(home: dict[str, str]) -> None:
    assert load_settings({"model": " Extractive"}, environment=home).model == "extractive"


@pytest.mark.parametrize("written", ["false", "False", "no", "off", "0"])
def test_keeping_prefixes_is_a_switch(home: dict[str, str], written: str) -> None:
    assert load_settings(environment=home | {"ALPACA_RAG_PREFIXES": written}).prefixes is False
    write_settings(home, "prefixes = false\n")
    assert load_settings(environment=home).prefixes is False
    assert load_settings(environment=home | {"ALPACA_RAG_PREFIXES": "true"}).prefixes is True
    settings = load_settings({"prefixes": False}, environment=home | {"ALPACA_RAG_PREFIXES": "1"})
    assert (settings.prefixes, settings.origins["prefixes"]) == (False, "--no-cache")


def test_a_draft_model_and_the_type_of_keys_and_values(home: dict[str, str]) -> None:
    file = write_settings(home, 'draft = "chinese-alpaca-2-1.3b"\nkv_type = "q8_0"\ncache = "kept"\n')
    settings = load_settings(environment=home)
    assert (settings.draft, settings.kv_type, settings.cache) == ("chinese-alpaca-2-1.3b", "q8_0", file.parent / "kept")
    settings = load_settings(environment=home | {"ALPACA_RAG_DRAFT": "None", "ALPACA_RAG_KV_TYPE": "f16"})
    assert (settings.draft, settings.kv_type) == (None, "f16")


def test_an_empty_variable_is_not_set(home: dict[str, str]) -> None:
    assert load_settings(environment=home | {"ALPACA_RAG_MODEL": "", "ALPACA_RAG_WINDOW": " "}) == load_settings(
        environment=home
    )


@pytest.mark.parametrize(
    ("name", "nearest"), [("ALPACA_RAG_LIBARY", "ALPACA_RAG_LIBRARY"), ("alpaca_rag_model", "ALPACA_RAG_MODEL")]
)
def test_a_misspelt_variable_is_refused_with_the_nearest(home: dict[str, str], name: str, nearest: str) -> None:
    with pytest.raises(WrongUsageError) as caught:
        load_settings(environment=home | {name: "x"})
    assert name in caught.value.message.en
    assert f"Did you mean {nearest}?" in caught.value.hint.en
    assert f"您是否想写 {nearest}？" in caught.value.hint.zh


def test_an_unknown_key_of_the_file_is_refused_with_the_nearest(home: dict[str, str]) -> None:
    file = write_settings(home, 'modle = "x"\n')
    with pytest.raises(WrongUsageError) as caught:
        load_settings(environment=home)
    assert str(file) in caught.value.message.en
    assert "Did you mean model?" in caught.value.hint.en


def test_the_switches_are_no_settings_and_no_mistakes(home: dict[str, str]) -> None:
    variables = home | dict.fromkeys(SWITCHES[1:], "1")
    assert load_settings(environment=variables) == load_settings(environment=home)


@pytest.mark.parametrize("text", ["model = ", "model == 1", "\x00"])
def test_a_file_that_is_no_toml_is_named(home: dict[str, str], text: str) -> None:
    file = write_settings(home, text)
    with pytest.raises(WrongUsageError, match="settings") as caught:
        load_settings(environment=home)
    assert str(file) in caught.value.message.zh


def test_a_file_in_another_encoding_is_named(home: dict[str, str]) -> None:
    write_settings(home, 'library = "知识库"', encoding="gb18030")
    with pytest.raises(WrongUsageError, match="UTF-8"):
        load_settings(environment=home)


def test_a_named_file_that_is_missing_is_an_error(home: dict[str, str]) -> None:
    with pytest.raises(WrongUsageError, match="names no file"):
        load_settings(environment=home | {"ALPACA_RAG_SETTINGS": "/nowhere/settings.toml"})


@pytest.mark.parametrize(
    "line",
    [
        'window = "wide"', "window = 0", "window = -1", "window = 1.5", "window = true", 'strategy = "refine"',
        "strategy = 1", 'kv_type = "q5"', "kv_type = 8", "prefixes = 2", 'prefixes = "perhaps"', "draft = 1",
        "cache = 1", 'language = "fr"', "library = 5", 'library = ""', "model = []", 'model = " "',
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_meant_is_refused(home: dict[str, str], line: str) -> None:
    write_settings(home, line)
    with pytest.raises(WrongUsageError) as caught:
        load_settings(environment=home)
    assert caught.value.exit_code == 2
    assert caught.value.hint.zh
    assert caught.value.hint.en


def test_every_key_has_its_variable_and_its_line_in_the_documentation() -> None:
    import chinese_alpaca_rag.settings as module

    for key in KEYS:
        assert f"ALPACA_RAG_{key.upper()}" in (module.__doc__ or "")
        assert key in Settings.__dataclass_fields__


@pytest.mark.parametrize(
    ("text", "window"),
    [("16384", 16384), ("16K", 16384), ("64k", 65536), ("16,384", 16384), (" 8_192 ", 8192), ("+1", 1)],
)
def test_windows_as_people_write_them(text: str, window: int) -> None:
    assert parse_window(text) == window


@given(st.integers(min_value=1, max_value=10**11))
def test_any_number_is_its_own_window(number: int) -> None:
    assert parse_window(str(number)) == parse_window(f"{number:,}") == number


@given(
    st.text().filter(lambda text: not any(character.isdigit() for character in text))
    | st.integers(max_value=0).map(str)
)
def test_anything_else_is_no_window(text: str) -> None:
    with pytest.raises(WindowUnreachableError, match="--window 16K"):
        parse_window(text)
