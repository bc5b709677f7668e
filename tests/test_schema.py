"""configs/schema.json: up to date, every file of settings fits it in both forms, and what does not fit is refused."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from test_sections import in_sections

from utils.config import FIELDS, ConfigError, resolve
from utils.schema import schema
from utils.sections import SCHEMA, flatten

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
FILES = [path for path in sorted(CONFIGS.glob("*.json"))                # suites are sweep.py's
         if path.name != "schema.json" and "runs" not in json.loads(path.read_text())]
KINDS = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}
PASSED_OVER = {"$schema", "$defs", "title", "description", "default"}


def is_a(kind: str, value) -> bool:
    if kind in ("integer", "number"):
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return number and (kind == "number" or value == int(value))
    return isinstance(value, KINDS[kind])


CHECKS = {
    "type": lambda wants, value: any(is_a(kind, value) for kind in ([wants] if isinstance(wants, str) else wants)),
    "enum": lambda wants, value: any(type(one) is type(value) and one == value for one in wants),
    "minimum": lambda wants, value: value is None or value >= wants,
    "maximum": lambda wants, value: value is None or value <= wants,
    "exclusiveMinimum": lambda wants, value: value is None or value > wants,
    "pattern": lambda wants, value: value is None or re.search(wants, value) is not None,
    "minItems": lambda wants, value: len(value) >= wants,
    "maxItems": lambda wants, value: len(value) <= wants,
    "uniqueItems": lambda wants, value: len(set(value)) == len(value),
    "items": lambda wants, value: all(fits(one, wants) for one in value),
    "anyOf": lambda wants, value: any(fits(value, one) for one in wants),
    "$ref": lambda wants, value: fits(value, schema()["$defs"][wants.removeprefix("#/$defs/")]),
    "properties": lambda wants, value: all(fits(value[name], wants[name]) for name in value if name in wants),
}


def fits(value, wants: dict) -> bool:
    """The part of JSON schema that ours uses; `type` is looked at first."""
    if "type" in wants and not CHECKS["type"](wants["type"], value):
        return False
    rest = {word: what for word, what in wants.items() if word not in PASSED_OVER | {"type", "additionalProperties"}}
    if "additionalProperties" in wants and not set(value) <= set(wants["properties"]):
        return False
    return all(CHECKS[word](what, value) for word, what in rest.items())


def test_the_file_is_up_to_date():
    done = subprocess.run([sys.executable, "-m", "utils.schema"], cwd=CONFIGS.parent, capture_output=True, text=True,
                          check=True)
    assert (CONFIGS / "schema.json").read_text() == done.stdout, "python -m utils.schema > configs/schema.json"


def test_every_setting_has_its_help_its_default_and_its_range():
    of = schema()["$defs"]
    assert of.keys() == FIELDS.keys()
    assert all(of[name]["description"].startswith(field.metadata["help"]) for name, field in FIELDS.items())
    assert all(of[name].get("default") == field.default for name, field in FIELDS.items())
    assert of["gamma"] | {"description": ""} == {"description": "", "default": 0.99, "type": ["number", "null"],
                                                 "minimum": 0, "maximum": 1}
    assert of["env_type"]["enum"] == ["ep_rews", "normal", None]
    assert of["pi_lr"]["description"].startswith("learning rate of the policy (default: ddpg 0.0001, td3 0.0003, sac ")
    assert of["pi_lr"]["exclusiveMinimum"] == 0


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_config_fits_in_both_forms(path):
    values = json.loads(path.read_text())
    assert (path.parent / values[SCHEMA]).is_file()
    assert fits(values, schema())
    settings = flatten(values)
    assert SCHEMA not in settings
    assert fits(in_sections(settings), schema())
    assert flatten(in_sections(settings)) == settings


@pytest.mark.parametrize("choice", [{}, {"alg": "uniform", "basis_alg": "ddpg"}, {"alg": "dqn", "env": "Pong"},
                                    {"seeds": [0, 3]}, {"seeds": "0-4"}, {"device": "cuda:1"}], ids=str)
def test_what_a_run_writes_fits(choice):
    values = json.loads(json.dumps(resolve(choice).settings()))
    assert fits(values, schema())
    assert fits(in_sections(values), schema())


@pytest.mark.parametrize("wrong", [
    {"gamma": 1.5}, {"gamma": -0.1}, {"pi_lr": 0}, {"seed": -1}, {"seed": 0.5}, {"epochs": True}, {"save_rews": 1},
    {"alg": "ppo"}, {"basis_alg": "rrd"}, {"env_type": "dense"}, {"device": "mps"}, {"device": "cuda:x"}, {"seeds": []},
    {"seeds": [0, 0]}, {"seeds": [-1]}, {"epoch": 3}, {"tag": 5}, {"noop": 1001}, {"worker_timeout": 0},
], ids=str)
def test_what_is_wrong_fits_neither_the_schema_nor_the_program(wrong):
    assert not fits(wrong, schema())
    with pytest.raises(ConfigError):
        resolve(flatten(wrong))
    (name,) = wrong
    if name in FIELDS:
        assert not fits(in_sections(wrong), schema())


@pytest.mark.parametrize("wrong", [{"policy": {"gamma": 0.5}}, {"env": {"id": "Ant-v4"}}, {"policy": 3}, {"env": 3},
                                   {"runtime": {"seed": -1}}], ids=str)
def test_wrong_sections_do_not_fit(wrong):
    assert not fits(wrong, schema())
