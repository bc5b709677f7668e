"""Settings files in sections are the same as flat ones, and misplaced settings are named in one line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from settings_cases import FUZZ, NAMES, SCALARS, check_line, complaint, in_sections

from utils.errors import ConfigError
from utils.settings.cli import parse_args
from utils.settings.fields import FIELDS
from utils.settings.json_files import SECTIONS, flatten, read_json, section_of, settings_of
from utils.settings.resolve import resolve

PAGE = (Path(__file__).resolve().parent.parent.parent.parent / "docs" / "configs.md").read_text(encoding="utf-8")


@pytest.fixture
def load(tmp_path):
    """The text of a JSON file and flags -> the settings."""
    def load(text: str, *flags: str):
        path = tmp_path / "settings.json"
        path.write_text(text)
        return parse_args([f"--config={path}", *flags])
    return load


def test_every_setting_is_in_exactly_one_section():
    assert sorted(name for section in SECTIONS for name in settings_of(section)) == sorted(FIELDS)
    known = {"seed": "runtime", "env": "env", "noop": "env", "pi_lr": "policy", "alg": "algorithm",
             "basis_alg": "algorithm", "gamma": "algorithm", "r_lr": "algorithm"}
    assert {name: section_of(name) for name in known} == known


@pytest.mark.parametrize("choice", [{}, {"alg": "uniform", "basis_alg": "td3"}, {"alg": "dqn", "env": "Pong"}], ids=str)
def test_a_file_in_sections_is_the_flat_one(load, choice):
    config = resolve(choice | {"seed": 7, "gamma": 0.5})
    assert load(json.dumps(in_sections(config.settings()))) == load(json.dumps(config.settings())) == config


def test_both_forms_may_be_in_one_file_and_flags_win(load):
    text = '{"$schema": "schema.json", "seed": 3, "policy": {"pi_lr": 0.5, "q_lr": null}, "env": {"env": "Hopper-v4"}}'
    config = load(text, "--pi_lr=0.25")
    assert (config.seed, config.env, config.pi_lr, config.q_lr) == (3, "Hopper-v4", 0.25, 3e-4)
    assert load('{"env": "Hopper-v4", "policy": {}}') == load('{"env": {"env": "Hopper-v4"}}')


@pytest.mark.parametrize(("content", "message"), [
    ({"policy": {"gamma": 0.5}}, "policy.gamma: not a setting of this section; it belongs to algorithm"),
    ({"runtime": {"env": "Ant-v4"}}, "runtime.env: not a setting of this section; it belongs to env"),
    ({"policy": {"pi_lrr": 1}}, "policy.pi_lrr: unknown setting; did you mean pi_lr?"),
    ({"policy": {"a\nb": 1}}, "policy.'a\\nb': unknown setting"),
    ({"algorithm": {"algorithm": {}}}, "algorithm.algorithm: unknown setting"),
    ({"policies": {"pi_lr": 1}}, "policies: unknown setting; did you mean policy?"),
    ({"algorithm": 3}, "algorithm: got 3, expected an object of settings, because it is a section"),
    ({"algorithm": None}, "algorithm: got None, expected an object of settings, because it is a section"),
    ({"seed": 1, "runtime": {"seed": 1}}, "seed: got 2 values in the file, one in a section, expected one"),
    ({"runtime": {"seed": -1}}, "seed: got -1, expected"),
    ({"runtime": {"seed": {"a": 1}}}, "seed: got {'a': 1}, expected"),
    ({"env": {"$schema": "x"}}, "env.'$schema': unknown setting"),
    ({"env": ["Ant-v4"]}, "env: got ['Ant-v4'], expected"),
], ids=str)
def test_a_misplaced_setting_is_named(load, content, message):
    with pytest.raises(ConfigError) as error:
        load(json.dumps(content))
    assert str(error.value).startswith(message)
    assert len(str(error.value).splitlines()) == 1


def test_a_section_or_a_setting_that_is_given_twice_is_refused(load):
    assert complaint(load, '{"env": {}, "env": "Ant-v4"}') == "env: got 2 values in the file, expected one"
    assert complaint(load, '{"runtime": {"seed": 1, "seed": 1}}') == "seed: got 2 values in the file, expected one"


def test_a_module_to_import_is_refused_in_a_section_too(load):
    assert "names a module to import" in complaint(load, '{"env": {"env": "os:Foo-v0"}}')


def test_the_example_of_the_docs_is_understood(tmp_path):
    (text,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    path = tmp_path / "settings.json"
    path.write_text(text)
    config = parse_args([f"--config={path}"])
    assert (config.basis_alg, config.env, config.pi_lr, config.seed) == ("td3", "Ant-v4", 1e-4, 1)


@settings(FUZZ)
@given(st.dictionaries(NAMES | st.sampled_from(list(SECTIONS)),
                       SCALARS | st.dictionaries(NAMES, SCALARS, max_size=3), max_size=3))
def test_any_sections_give_settings_or_one_line(tmp_path_factory, values):
    path = tmp_path_factory.getbasetemp() / "sections.json"
    path.write_text(json.dumps(values), encoding="utf-8")
    try:
        config = resolve(read_json(path))
    except ConfigError as error:
        check_line(str(error), [*values, *SECTIONS])
    else:
        assert resolve(flatten(in_sections(config.settings()))) == config


def test_a_byte_order_mark_is_skipped():
    Path("settings.json").write_bytes(b'\xef\xbb\xbf{"gamma": 0.5}')
    assert read_json("settings.json") == {"gamma": 0.5}
