from __future__ import annotations

import json
import pickle
import re
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chinese_alpaca_rag.errors import StructuredOutputError, WrongUsageError
from chinese_alpaca_rag.family.tokens import Tokenizer
from chinese_alpaca_rag.llms.constraints import Matcher
from chinese_alpaca_rag.llms.least_tokens import check_budget, least_tokens
from chinese_alpaca_rag.llms.request import Constraint
from chinese_alpaca_rag.llms.schemas import check_schema, tightened
from chinese_alpaca_rag.llms.verifying import broken_bound, conclude
from tests.family.vocabularies import any_named
from tests.llms.random_writer import PADDED_ROWS, PERSON, TREE, Schema, accepts, write

_jsonschema: Any = import_module("jsonschema")


def is_valid(value: Any, schema: Schema) -> bool:
    """As the package itself sees it."""
    formats = _jsonschema.FormatChecker(formats=("date",))
    return bool(_jsonschema.Draft202012Validator(schema, format_checker=formats).is_valid(value))


VOCABULARIES = ["toy", "byte-pair", "smallest", "real"]


@pytest.fixture(params=VOCABULARIES)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return any_named(request.param)


@pytest.mark.parametrize("schema", [PERSON, TREE], ids=["person", "tree"])
def test_what_random_logits_write_has_the_form_or_is_told_to_be_cut(schema: Schema, tokenizer: Tokenizer) -> None:
    whole = 0
    for seed in range(12):
        written = write(Constraint(schema), tokenizer, max_tokens=150, seed=seed)
        try:
            value = conclude(written.text, Constraint(schema), written.finish_reason, 150)
        except StructuredOutputError as error:
            assert written.finish_reason == "length"
            assert error.partial == written.text
            continue
        whole += 1
        assert is_valid(value, schema)
        assert json.dumps(value, ensure_ascii=False) == re.sub(r"-0\b", "0", written.text)
    assert whole >= 3


_scalars: st.SearchStrategy[Schema] = st.one_of(
    st.just({"type": "boolean"}),
    st.just({"type": "null"}),
    st.just({"type": "integer"}),
    st.just({"type": "number", "minimum": -5, "maximum": 5}),
    st.integers(-100, 100).map(lambda number: {"type": "integer", "minimum": number, "maximum": number + 50}),
    st.integers(0, 6).map(lambda length: {"type": "string", "minLength": length, "maxLength": length + 3}),
    st.lists(st.text(max_size=6), min_size=1, max_size=4, unique=True).map(lambda texts: {"enum": texts}),
    st.text(max_size=8).map(lambda text: {"const": text}),
    st.just({"type": "string", "pattern": "^[a-c]{1,4}$"}),
    st.just({"type": "string", "format": "date"}),
)


def _larger(inner: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    properties = st.dictionaries(st.text(min_size=1, max_size=5), inner, max_size=3)
    return st.one_of(
        properties.flatmap(
            lambda named: st.lists(st.sampled_from(sorted(named)) if named else st.nothing(), unique=True).map(
                lambda required: {"type": "object", "properties": named, "required": required}
            )
        ),
        st.tuples(inner, st.integers(0, 2), st.booleans()).map(
            lambda given: {
                "type": "array",
                "items": given[0],
                "minItems": given[1],
                "maxItems": given[1] + 2,
                "uniqueItems": given[2],
            }
        ),
        st.lists(inner, min_size=1, max_size=3).map(lambda branches: {"anyOf": branches}),
        st.lists(inner, min_size=1, max_size=2).map(lambda branches: {"oneOf": branches}),
    )


@given(st.recursive(_scalars, _larger, max_leaves=6), st.integers(1, 80), st.integers(0, 1000))
@settings(max_examples=120, deadline=None)
def test_any_schema_and_any_budget_give_a_valid_value_or_the_error(schema: Schema, budget: int, seed: int) -> None:
    tokenizer = any_named("toy")
    tight = tightened(schema)
    try:
        check_schema(tight)
    except WrongUsageError as refused:
        assert "nsatisfiable" in str(refused)
        return
    written = write(Constraint(tight), tokenizer, max_tokens=budget, seed=seed)
    least = least_tokens(tight, tokenizer)
    try:
        value = conclude(written.text, Constraint(tight), written.finish_reason, budget)
    except StructuredOutputError as error:
        assert error.partial == written.text
        # Whatever else, nothing that ended by itself is half a JSON.
        assert written.finish_reason == "length" or broken_bound(json.loads(written.text), schema)
        return
    assert is_valid(value, schema)
    assert len(written.ids) >= least
    check_budget(tight, tokenizer, len(written.ids))


def test_an_answer_begins_as_the_tokenizer_begins_one_and_shows_no_space(tokenizer: Tokenizer) -> None:
    matcher = Matcher(Constraint(PERSON), tokenizer, tokenizer.vocabulary_size)
    begins = np.flatnonzero(matcher.allowed())
    assert tokenizer.encode('{"')[0] in begins
    for index in begins:
        shown = tokenizer.decode([int(index)])
        assert '{"姓名": "'.encode().startswith(shown.encode()), index


def test_json_is_on_one_line_with_fixed_separators_and_raw_chinese(tokenizer: Tokenizer) -> None:
    assert accepts(PERSON, '{"姓名": "张三", "age": 3, "tags": ["工程", null]}', tokenizer)
    for other in (
        '{"姓名":"张三", "age": 3}',
        '{"姓名": "张三","age": 3}',
        '{"姓名": "张三", "age": 3 }',
        '{ "姓名": "张三", "age": 3}',
        '{"姓名": "\\u5f20", "age": 3}',
        '{"姓名": "张三", "age": 3}\n',
        '  {"姓名": "张三", "age": 3}',
        '{"姓名": "", "age": 3}',
        '{"姓名": "张三", "age": 151}',
        '{"age": 3, "姓名": "张三"}',
    ):
        assert not accepts(PERSON, other, tokenizer), other


def test_only_the_end_may_follow_a_whole_answer(tokenizer: Tokenizer) -> None:
    rows = tokenizer.vocabulary_size + PADDED_ROWS
    matcher = Matcher(Constraint(PERSON), tokenizer, rows)
    for index in tokenizer.encode('{"姓名": "张", "age": 3'):
        assert not matcher.complete
        matcher.accept(index)
    other = matcher.copy()
    for index in tokenizer.spell("}"):
        matcher.accept(index)
    assert matcher.complete and matcher.finished
    assert set(np.flatnonzero(matcher.allowed())) == set(tokenizer.end_ids)
    matcher.accept(tokenizer.eos_id)
    assert matcher.finished
    assert not other.complete and not other.finished
    with pytest.raises(StructuredOutputError):
        other.accept(tokenizer.eos_id)
    with pytest.raises(StructuredOutputError):
        other.copy().accept(tokenizer.spell("x")[0])
    with pytest.raises(StructuredOutputError):
        other.accept(rows - 1)


def test_every_id_that_is_allowed_can_be_accepted() -> None:
    tokenizer = any_named("toy")
    for text in (
        '{"姓名": "',
        '{"姓名": "张", "age": ',
        '{"姓名": "张", "age": 3',
        '{"姓名": "张", "age": 3, "tags": [',
    ):
        matcher = Matcher(Constraint(PERSON), tokenizer, tokenizer.vocabulary_size)
        for index in tokenizer.encode(text):
            matcher.accept(index)
        allowed = np.flatnonzero(matcher.allowed())
        assert len(allowed) > 3
        for one in map(int, allowed):
            matcher.copy().accept(one)
            assert one not in tokenizer.control_ids - tokenizer.end_ids


CALL: Schema = {"type": "object", "properties": {"go": {"type": "boolean"}}, "required": ["go"]}
OR_TEXT = Constraint(tightened(CALL), or_text=True, opening='{"go"')


@pytest.mark.parametrize("text", ["", "好的", "{", '{"', '{"g', '{"good": 1', '{"Go": true}', "[]", "a\nb", " x"])
def test_free_text_is_free_as_long_as_it_does_not_begin_as_the_json_does(text: str, tokenizer: Tokenizer) -> None:
    ids = tokenizer.spell(text)
    matcher = Matcher(OR_TEXT, tokenizer, tokenizer.vocabulary_size)
    for index in ids:
        assert matcher.allowed()[index]
        matcher.accept(index)
    assert matcher.complete and not matcher.finished
    assert matcher.allowed()[tokenizer.eos_id]
    assert conclude(text, OR_TEXT, "length", 9) is None


@pytest.mark.parametrize("text", ["好的，年假有五天。", '{"title": 1}', '{"going": 1}', "[INST]"])
def test_free_text_is_written_in_the_tokenizers_own_pieces(text: str, tokenizer: Tokenizer) -> None:
    assert accepts(OR_TEXT.schema, text, tokenizer, or_text=True, opening=OR_TEXT.opening)


def test_json_stays_json_once_it_has_begun(tokenizer: Tokenizer) -> None:
    matcher = Matcher(OR_TEXT, tokenizer, tokenizer.vocabulary_size)
    for index in tokenizer.encode('{"go": '):
        assert matcher.allowed()[index]
        matcher.accept(index)
    assert not matcher.complete
    allowed = [tokenizer.decode([int(index)]) for index in np.flatnonzero(matcher.allowed())]
    assert all(re.match("^(t|f)", text) for text in allowed)
    with pytest.raises(StructuredOutputError, match="max_tokens=9"):
        conclude('{"go": tr', OR_TEXT, "length", 9)


def test_random_logits_write_text_and_json_both_when_both_may_be() -> None:
    tokenizer = any_named("toy")
    free = write(OR_TEXT, tokenizer, max_tokens=40, seed=3)
    assert not free.text.startswith(OR_TEXT.opening)
    called = write(OR_TEXT, tokenizer, max_tokens=40, seed=3, begin='{"go"')
    assert json.loads(called.text) in ({"go": True}, {"go": False})


def test_a_cut_answer_is_an_error_that_keeps_its_text_and_says_how_to_give_it_room() -> None:
    constraint = Constraint(PERSON)
    with pytest.raises(StructuredOutputError) as cut:
        conclude('{"姓名": "张', constraint, "length", 7)
    assert cut.value.partial == '{"姓名": "张'
    assert "max_tokens=7" in cut.value.message.en
    assert "maxLength" in cut.value.hint.en and "maxItems" in cut.value.hint.zh
    again = pickle.loads(pickle.dumps(cut.value))
    assert (again.partial, str(again)) == (cut.value.partial, str(cut.value))
    # An answer that is whole just where the limit is, is whole; a number never is for certain.
    assert conclude('{"姓名": "张", "age": 1}', constraint, "length", 7) == {"姓名": "张", "age": 1}
    with pytest.raises(StructuredOutputError, match="max_tokens=1"):
        conclude("12", Constraint({"type": "integer"}), "length", 1)
    assert conclude("12", Constraint({"type": "integer"}), "stop", 1) == 12


def test_one_vocabulary_serves_many_threads() -> None:
    tokenizer = any_named("toy")

    def one(seed: int) -> str:
        return write(Constraint(PERSON), tokenizer, max_tokens=60, seed=seed).text

    serial = list(map(one, range(16)))
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, range(16))) == serial


def test_a_mask_of_the_real_vocabulary_costs_next_to_nothing() -> None:
    tokenizer = any_named("real")
    matcher = Matcher(Constraint(PERSON), tokenizer, tokenizer.vocabulary_size)
    seconds = []
    for index in tokenizer.encode('{"姓名": "张三丰与他的徒弟们", "age": 103, "tags": ["工程", "design"]}'):
        started = time.perf_counter()
        matcher.allowed()
        seconds.append(time.perf_counter() - started)
        matcher.accept(index)
    assert matcher.finished
    assert float(np.median(seconds)) < 0.0005
