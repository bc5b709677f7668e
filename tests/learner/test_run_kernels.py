"""A run records the kernels that it chose, and is repeated and resumed with them."""

from __future__ import annotations

import json

import pytest
import runs

import train
from algorithm.engine.by_hand import products, timing
from utils import cache, precision

SIZES = ["--env=Pendulum-v1", *runs.SMALL_RRD]


@pytest.fixture
def choices(tmp_path, monkeypatch):
    """What timing finds, the last one first; each run that times takes one."""
    found = ["mm-1x1", "mm-2x1"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(products, "LEAST", 0)
    monkeypatch.setattr(timing, "is_busy", lambda: False)
    monkeypatch.setattr(timing, "candidates", lambda agent: [timing.parse("mm-1x1"), timing.parse("mm-2x1")])
    monkeypatch.setattr(timing, "_measured", lambda *args: found.pop())
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    return found


def test_a_run_records_its_kernels_and_its_config_repeats_them(choices, tmp_path):
    first = runs.run(*SIZES)
    assert first.config["kernels"] == "mm-2x1"
    repeated = runs.run(f"--config={first.directory}/config.json", "--tag=again")
    assert repeated.config["kernels"] == "mm-2x1"
    assert choices == ["mm-1x1"]                        # nothing was timed


def test_a_run_is_resumed_with_its_kernels(choices, tmp_path):
    first = runs.run(*SIZES)
    (tmp_path / "cache" / "kernels.json").unlink()
    assert train.main([*SIZES, "--on_existing=resume", "--total_timesteps=160"]) == 0
    assert json.loads((first.directory / "config.json").read_text())["kernels"] == "mm-2x1"
    assert choices == ["mm-1x1"]


def test_several_seeds_share_one_choice(choices, tmp_path, monkeypatch):
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "file" / "below"))
    (tmp_path / "file").write_text("")                  # nothing can be cached
    assert train.main([*SIZES, "--seeds=0,1"]) == 0
    configs = [json.loads(path.read_text()) for path in (tmp_path / "outputs").glob("*/config.json")]
    assert [config["kernels"] for config in configs] == ["mm-2x1"] * 2
    assert choices == ["mm-1x1"]


def test_wrong_kernels_end_with_one_line(choices, capsys):
    assert train.main([*SIZES, "--kernels=mkl-2x1"]) == 2
    assert "kernels: got 'mkl-2x1', expected auto, autograd, or products-halves x threads" in capsys.readouterr().err


# bf16 ---------------------------------------------------------------------------------------------------------------

def directory_of(tmp_path):
    (found,) = (tmp_path / "outputs").iterdir()
    return json.loads((found / "config.json").read_text())


@pytest.fixture
def lacks_bf16(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(products, "LEAST", 0)
    monkeypatch.setattr(precision, "bf16_unit", lambda: "")


BF16 = [*SIZES, "--precision=bf16", "--hidden_sizes=8,8"]


@pytest.mark.parametrize("engine", ["auto", "eager"])
def test_without_bf16_a_run_is_in_fp32_says_so_and_records_it(engine, lacks_bf16, tmp_path, capsys):
    assert train.main([*BF16, f"--engine={engine}"]) == 0
    assert "note: --precision=bf16: not used" in capsys.readouterr().out
    assert directory_of(tmp_path)["precision"] == "fp32"
    assert train.main([*BF16, f"--engine={engine}", "--on_existing=resume", "--total_timesteps=160"]) == 0


def test_a_run_in_bf16_is_resumed_in_it_on_another_processor(lacks_bf16, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as there:
        there.setattr(precision, "bf16_unit", lambda: "AMX")
        assert train.main(BF16) == 0
    assert "note: --precision=bf16: products in bf16 (AMX), weights in fp32" in capsys.readouterr().out
    first = directory_of(tmp_path)
    assert (first["precision"], first["kernels"].partition("-")[0]) == ("bf16", "bf16")
    assert train.main([*BF16, "--on_existing=resume", "--total_timesteps=160"]) == 0
    assert "note: --precision=bf16: emulated" in capsys.readouterr().out
    second = directory_of(tmp_path)
    assert (second["precision"], second["kernels"]) == (first["precision"], first["kernels"])


def test_the_precision_of_a_run_stays(lacks_bf16, capsys):
    """As before: a run in fp32 is not resumed in bf16, nor the other way round."""
    assert train.main([*SIZES, "--hidden_sizes=8,8"]) == 0
    assert train.main([*BF16, "--kernels=bf16-1x1", "--on_existing=resume"]) == 2
    assert "precision fp32 -> bf16" in capsys.readouterr().err
