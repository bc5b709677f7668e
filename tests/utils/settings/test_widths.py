"""The settings of networks, gradients and learning rates: how they are written, checked and kept."""

from __future__ import annotations

import json

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from settings_cases import FUZZ, in_sections

from utils.errors import ConfigError
from utils.settings.cli import parse_args
from utils.settings.fields import ACTIVATIONS, FIELDS
from utils.settings.json_files import flatten, section_of
from utils.settings.resolve import coerce, resolve
from utils.settings.schema import schema

SIZES = ["hidden_sizes", "critic_hidden_sizes", "reward_hidden_sizes"]
RIGHT = {"256,256": (256, 256), "8": (8,), " 8 , 7,6 ": (8, 7, 6), "1000000": (1_000_000,)}
WRONG = ["", ",", "8,", "8,,8", "0", "8,0", "-8", "8.5", "1e2", "a", "1000001", "9" * 5000, "8;8", "(8, 8)",
         ",".join("8" * 1001)]
CHECK = jsonschema.Draft202012Validator(schema())


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("text", RIGHT)
def test_widths_are_written_with_commas_or_as_a_list(name, text):
    expected = RIGHT[text]
    assert parse_args([f"--{name}={text}"]).settings()[name] == expected
    assert coerce(name, text) == coerce(name, list(expected)) == coerce(name, expected) == expected
    assert CHECK.is_valid({name: list(expected)})
    assert CHECK.is_valid({name: text})


@pytest.mark.parametrize("value", [*WRONG, [], [0], [8, "8"], [8, True], [8.5], [None], 8, True, {"8": 8}, [[8]],
                                   [1_000_001], [8] * 1001], ids=lambda value: str(value)[:20])
def test_other_widths_give_a_one_line_error(value):
    with pytest.raises(ConfigError) as error:
        resolve({"hidden_sizes": value})
    assert str(error.value).startswith("hidden_sizes: got ")
    assert ", expected at least 1 and at most 100 integers, such as 256,256" in str(error.value)


@pytest.mark.parametrize("value", [value for value in WRONG if len(value) < 7] + [[], [0], [8, "8"], [8.5], 8, True],
                         ids=str)
def test_other_widths_do_not_fit_the_schema(value):
    assert not CHECK.is_valid({"hidden_sizes": value})


@given(st.lists(st.integers(1, 1_000_000), min_size=1, max_size=20))
@FUZZ
def test_the_written_widths_are_read_back(widths):
    config = resolve({"hidden_sizes": ",".join(map(str, widths))})
    written = json.loads(json.dumps(config.settings()))
    assert written["hidden_sizes"] == widths
    assert resolve(flatten(in_sections(written))) == config


def test_settings_that_are_not_given_are_not_written():
    names = [name for name, field in FIELDS.items() if field.belongs == "networks"]
    assert len(names) == 14
    for choice in ({}, {"alg": "dqn", "env": "Pong"}, {"alg": "rrd", "basis_alg": "ddpg"}):
        assert not set(names) & set(resolve(choice).settings())
    assert {section_of(name) for name in names} == {"policy"}


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_is_a_choice_of_every_part(activation):
    for name in ("activation", "critic_activation", "reward_activation"):
        assert getattr(resolve({name: activation}), name) == activation


@pytest.mark.parametrize(("schedule", "expected"), [
    ("constant", (None, None)), ("linear", (0.0, 0.0)), ("cosine", (0.0, 0.0)), ("exponential", (0.01, None))])
def test_a_schedule_has_its_own_defaults(schedule, expected):
    config = resolve({"lr_schedule": schedule})
    assert (config.lr_end, config.lr_warmup) == expected
    assert resolve(config.settings()) == config


def test_a_flag_wins_over_a_file(tmp_path):
    path = tmp_path / "settings.json"
    path.write_text('{"policy": {"hidden_sizes": [8, 8], "lr_schedule": "linear", "lr_end": 0.5}}')
    config = parse_args([f"--config={path}", "--hidden-sizes=7"])
    assert (config.hidden_sizes, config.lr_schedule, config.lr_end) == ((7,), "linear", 0.5)
