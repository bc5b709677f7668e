"""Adam and RMSprop beside PyTorch's own."""

from __future__ import annotations

import pytest
import torch

from utils.torch_optimizers import Adam, RMSprop


@pytest.mark.parametrize(("ours", "theirs"), [
    (lambda p: Adam([dict(name="x", params=p, lr=0.01, eps=1e-3)]), lambda p: torch.optim.Adam(p, lr=0.01, eps=1e-3)),
    (lambda p: RMSprop([dict(name="x", params=p, lr=0.01)], 0.9, 1e-3),
     lambda p: torch.optim.RMSprop(p, lr=0.01, alpha=0.9, eps=1e-3)),
])
def test_twenty_steps_are_pytorchs(ours, theirs):
    start = [torch.randn(4, 3), torch.randn(3)]
    mine, other = ([torch.nn.Parameter(value.clone()) for value in start] for _ in "ab")
    for parameters, opt in ((mine, ours(mine)), (other, theirs(other))):
        generator = torch.Generator().manual_seed(0)
        for _ in range(20):
            for parameter in parameters:
                parameter.grad = 0.01 * torch.randn(parameter.shape, generator=generator)
            opt.step()
    for one, another in zip(mine, other, strict=True):
        torch.testing.assert_close(one, another, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("make", [lambda p: Adam([dict(name="x", params=p, lr=1.0)]),
                                  lambda p: RMSprop([dict(name="x", params=p, lr=1.0)], 0.9, 1e-3)])
def test_a_rate_on_the_device_is_a_number(make):
    start = torch.randn(5)
    found = []
    for rate in (0.03, torch.tensor(0.03)):
        parameter = torch.nn.Parameter(start.clone())
        opt = make([parameter])
        opt.step_group(opt.param_groups[0], {parameter: torch.ones(5)}, rate)
        found.append(parameter.detach())
    torch.testing.assert_close(*found)


def test_a_schedule_counts_the_steps_that_were_skipped():
    parameter = torch.nn.Parameter(torch.zeros(1))
    opt = Adam([dict(name="x", params=[parameter], lr=2.0, schedule=lambda t: 1 / t)])
    group = opt.param_groups[0]
    assert opt.rate(group, 3) == pytest.approx(2 / 3)
    group["skipped"] = 5
    assert opt.rate(group, 3) == pytest.approx(2 / 8)
