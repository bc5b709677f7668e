"""The schemas in configs/: up to date, every file there fits its schema, and other files are refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from settings_cases import in_sections

from sweeps.schema import suite_schema
from sweeps.suite import read_suite
from utils.errors import ConfigError
from utils.settings.fields import FIELDS
from utils.settings.json_files import SCHEMA, flatten
from utils.settings.resolve import resolve
from utils.settings.schema import main, schema

CONFIGS = Path(__file__).resolve().parent.parent.parent.parent / "configs"
SCHEMAS = {"configs/schema.json": schema, "configs/suite.schema.json": suite_schema}
FILES = [path for path in sorted(CONFIGS.glob("*.json")) if str(path.relative_to(CONFIGS.parent)) not in SCHEMAS]
SUITES = [path for path in FILES if "runs" in json.loads(path.read_text())]
CHECK, CHECK_SUITE = (jsonschema.Draft202012Validator(make()) for make in (schema, suite_schema))


def fits(value) -> bool:
    return CHECK.is_valid(value)


@pytest.mark.parametrize(("name", "module"), [("schema.json", "utils.settings.schema"),
                                              ("suite.schema.json", "sweeps.schema")])
def test_the_files_are_up_to_date(name, module):
    done = subprocess.run([sys.executable, "-m", module], cwd=CONFIGS.parent, capture_output=True, text=True,
                          check=True)
    assert (CONFIGS / name).read_text() == done.stdout, f"python -m {module} > configs/{name}"


def test_another_word_is_no_schema(capsys):
    assert main(["suites"]) == 2
    assert capsys.readouterr().err == "schema: got 'suites', expected --import=MODULE or no argument\n"


@pytest.mark.parametrize("make", [schema, suite_schema])
def test_they_are_schemas(make):
    jsonschema.Draft202012Validator.check_schema(make())


def test_every_setting_has_its_help_its_default_and_its_range():
    of = schema()["$defs"]
    assert of.keys() == FIELDS.keys()
    assert all(of[name]["description"].startswith(field.help) for name, field in FIELDS.items())
    assert all(of[name].get("default") == field.default for name, field in FIELDS.items())
    assert of["gamma"] | {"description": ""} == {"description": "", "default": 0.99, "type": ["number", "null"],
                                                 "minimum": 0, "maximum": 1}
    assert of["env_type"]["enum"] == ["ep_rews", "normal", None]
    assert of["pi_lr"]["description"].startswith("learning rate of the policy (default: ddpg 0.0001, td3 0.0003, sac ")
    assert of["pi_lr"]["exclusiveMinimum"] == 0


@pytest.mark.parametrize("path", [path for path in FILES if path not in SUITES], ids=lambda path: path.name)
def test_every_config_fits_in_both_forms(path):
    values = json.loads(path.read_text())
    assert (path.parent / values[SCHEMA]).is_file()
    assert fits(values)
    settings = flatten(values)
    assert SCHEMA not in settings
    assert fits(in_sections(settings))
    assert flatten(in_sections(settings)) == settings


@pytest.mark.parametrize("choice", [{}, {"alg": "uniform", "basis_alg": "ddpg"}, {"alg": "dqn", "env": "Pong"},
                                    {"seeds": [0, 3]}, {"seeds": "0-4"}, {"device": "cuda:1"}], ids=str)
def test_the_written_config_fits_the_schema(choice):
    values = json.loads(json.dumps(resolve(choice).settings()))
    assert fits(values)
    assert fits(in_sections(values))


@pytest.mark.parametrize("wrong", [
    {"gamma": 1.5}, {"gamma": -0.1}, {"pi_lr": 0}, {"seed": -1}, {"seed": 0.5}, {"epochs": True}, {"save_rews": 1},
    {"alg": "ppoo"},
    {"basis_alg": "rrd"}, {"env_type": "dense"}, {"device": "mps:x"}, {"device": "cuda:x"}, {"seeds": []},
    {"seeds": [0, 0]}, {"seeds": [-1]}, {"epoch": 3}, {"tag": 5}, {"noop": 1001}, {"worker_timeout": 0},
], ids=str)
def test_wrong_settings_fit_neither_the_schema_nor_the_program(wrong):
    assert not fits(wrong)
    with pytest.raises(ConfigError):
        resolve(flatten(wrong))
    (name,) = wrong
    if name in FIELDS:
        assert not fits(in_sections(wrong))


@pytest.mark.parametrize("wrong", [{"policy": {"gamma": 0.5}}, {"env": {"id": "Ant-v4"}}, {"policy": 3}, {"env": 3},
                                   {"runtime": {"seed": -1}}], ids=str)
def test_wrong_sections_do_not_fit(wrong):
    assert not fits(wrong)


# Suites --------------------------------------------------------------------------------------------------------------

def suite(**parts) -> dict:
    return {"env": ["Hopper-v4"], "runs": {"SAC": {"alg": "sac"}}} | parts


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.name)
def test_every_suite_fits(path):
    values = json.loads(path.read_text())
    assert (path.parent / values[SCHEMA]).is_file()
    assert CHECK_SUITE.is_valid(values)


@pytest.mark.parametrize("given", [
    suite(), suite(common={"device": "cpu", "policy": {"pi_lr": 1e-4}}), suite(common={"env": {"test_rollouts": 3}}),
    suite(runs={"a": {}, "b": {"runtime": {"epochs": 2}, "gamma": None}}),
], ids=str)
def test_suites_that_the_sweep_reads_fit(given, tmp_path):
    assert CHECK_SUITE.is_valid(given)
    (tmp_path / "suite.json").write_text(json.dumps(given))
    assert read_suite(tmp_path / "suite.json", "0", [])


@pytest.mark.parametrize("wrong", [
    {"env": ["Hopper-v4"]}, suite(env=[]), suite(env="Hopper-v4"), suite(env=["Ant-v4", "Ant-v4"]), suite(env=[3]),
    suite(runs={}), suite(runs=[{}]), suite(runs={"a": 3}), suite(runs={"": {}}), suite(runs={"a" * 61: {}}),
    suite(seeds=[0, 1]), suite(common={"seed": 1}), suite(common={"env": "Ant-v4"}),
    suite(common={"env": {"env": "Ant-v4"}}),
    suite(runs={"a": {"tag": "b"}}), suite(runs={"a": {"on_existing": "new"}}), suite(runs={"a": {"gama": 0.9}}),
    suite(runs={"a": {"gamma": 2}}), suite(runs={"a": {"policy": {"gamma": 0.5}}}), suite(common=[]),
    suite(runs={"a": {"runtime": {"seeds": "0-4"}}}),
], ids=lambda wrong: str(wrong)[:90])
def test_wrong_suites_fit_neither_the_schema_nor_the_program(wrong, tmp_path):
    assert not CHECK_SUITE.is_valid(wrong)
    (tmp_path / "suite.json").write_text(json.dumps(wrong))
    with pytest.raises(ConfigError):
        read_suite(tmp_path / "suite.json", "0", [])
