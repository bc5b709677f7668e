"""bf16 on processors that have its products, and on those that do not."""

from __future__ import annotations

import pytest
import torch

from utils import precision
from utils.precision import possible
from utils.settings.fields import Config


def config(**changes) -> Config:
    return Config(**{"precision": "bf16", "device": "cpu"} | changes)


@pytest.fixture
def processor(monkeypatch):
    """Set what the processor has: "", or the names of its instructions."""
    def has(*units: str) -> None:
        monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
        for unit, name in precision.UNITS.items():
            monkeypatch.setattr(torch.cpu, name, lambda unit=unit: unit in units, raising=False)
    has()
    return has


@pytest.mark.parametrize(("units", "said"), [(["AMX", "AVX512-BF16"], "AMX"), (["AVX512-BF16"], "AVX512-BF16")])
def test_a_processor_with_bf16_uses_it_and_says_by_what(units, said, processor):
    processor(*units)
    found = possible(config(), repeats=False)
    assert found.precision == "bf16"
    assert found.notes == (f"note: --precision=bf16: products in bf16 ({said}), weights in fp32",)


def test_a_new_run_on_another_processor_is_one_in_fp32(processor):
    found = possible(config(notes=("note: a",)), repeats=False)
    assert found.precision == "fp32"
    first, note = found.notes
    assert first == "note: a"
    assert note.startswith("note: --precision=bf16: not used: this processor has neither AMX nor AVX512-BF16")


@pytest.mark.parametrize(("changes", "repeats"), [({}, True), (dict(kernels="bf16-2x1"), False)], ids=str)
def test_one_that_is_resumed_or_whose_kernels_say_bf16_is_emulated(changes, repeats, processor):
    found = possible(config(**changes), repeats)
    assert found.precision == "bf16"
    assert "emulated, several times slower" in found.notes[0]


def test_without_onednn_there_is_no_bf16(processor, monkeypatch):
    processor("AMX")
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert possible(config(), repeats=False).precision == "fp32"


def test_an_older_pytorch_that_cannot_say_has_none(processor, monkeypatch):
    for name in precision.UNITS.values():
        monkeypatch.delattr(torch.cpu, name, raising=False)
    assert precision.bf16_unit() == ""


@pytest.mark.parametrize("changes", [dict(precision="fp32"), dict(precision="tf32")], ids=str)
def test_other_precisions_are_left_alone(changes, processor):
    given = config(**changes)
    assert possible(given, repeats=False) is given


def test_other_devices_are_left_alone(processor, monkeypatch):
    monkeypatch.setattr(precision, "resolve_device", torch.device)
    given = config(device="cuda")
    assert possible(given, repeats=False) is given
