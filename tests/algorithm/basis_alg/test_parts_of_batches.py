"""A batch in parts: the gradients of the parts, added up, are those of the whole batch."""

from __future__ import annotations

import pytest
import torch
from test_encoded_agents import CONTINUOUS, DISCRETE, batch, build

from algorithm.engine import create_engine
from algorithm.replay_buffer import create_buffer
from utils.errors import ConfigError
from utils.settings.resolve import resolve


@pytest.mark.parametrize("count", [2, 3, 16])
@pytest.mark.parametrize("alg", [*CONTINUOUS, *DISCRETE])
def test_a_batch_in_parts_is_the_whole_batch(alg, count):
    """Also where the parts differ in size, and with weights and noise that the agent draws."""
    whole, parts = build(alg), build(alg, grad_accum_steps=count)
    for seed in range(3):
        given = batch(whole, 16, seed)
        given |= {"weight": torch.rand(16, 1, generator=torch.Generator().manual_seed(seed))}
        one, two = whole.train(given), parts.train(given)
        assert one.keys() == two.keys()
        for name, value in one.items():
            assert float(two[name]) == pytest.approx(float(value), rel=1e-4)
    assert parts.updates == whole.updates == 3
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(parts.state_dict()[name], tensor, rtol=2e-4, atol=2e-6, msg=name)
    if alg == "rainbow":
        assert len(parts.parts) == count
        torch.testing.assert_close(parts.last_losses, whole.last_losses, rtol=1e-4, atol=1e-5)


def test_parts_cannot_be_computed_by_every_engine_nor_paid_by_a_decomposition():
    agent = build("iqn", grad_accum_steps=2, engine="compile", buffer_size=2000)
    with pytest.raises(ConfigError, match="engine: got 'compile' with --grad_accum_steps=2, expected eager or auto"):
        create_engine(agent.config, agent, create_buffer(agent.config))
    agent = build("iqn", grad_accum_steps=2, buffer_size=2000)
    assert create_engine(agent.config, agent, create_buffer(agent.config))[0].name == "eager"
    with pytest.raises(ConfigError, match="grad_accum_steps: got 2 with rrd, whose episodes are not split"):
        build("rrd", basis_alg="iqn", grad_accum_steps=2)
    with pytest.raises(ConfigError, match="grad_accum_steps: not a setting of sac"):
        resolve({"alg": "sac", "grad_accum_steps": 2})


def test_the_products_of_half_precision_leave_weights_in_float32():
    agent = build("ac_iqn", precision="bf16", grad_accum_steps=2)
    info = agent.train(batch(agent))
    assert all(value.isfinite() for value in info.values())
    assert {tensor.dtype for tensor in agent.nets.parameters()} == {torch.float32}
