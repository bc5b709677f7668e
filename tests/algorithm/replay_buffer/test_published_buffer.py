"""The rollout by the signatures of the published trainer: its fields, its extras, one pass over all rows."""

from __future__ import annotations

import pytest
import torch

from algorithm import RolloutBuffer

T, N = 3, 2


def filled(rollouts: int = 1) -> RolloutBuffer:
    """Row t N + n of everything holds that number."""
    torch.manual_seed(1)
    buffer = RolloutBuffer(T, N, 4, 2, torch.device("cpu"))
    for t in range(rollouts * T):
        row = t * N + torch.arange(N, dtype=torch.float32)
        buffer.add(row[:, None].expand(N, 4), row[:, None].expand(N, 2), row, row > 3, row, row)
    return buffer


def test_a_pass_has_every_row_once_and_the_last_batch_is_shorter():
    buffer = filled()
    row = torch.arange(T * N).view(T, N)
    buffer.set_extras({"advantages": 10.0 * row, "returns": -row})
    batches = list(buffer.iterate_minibatches(4))
    assert [len(batch["obs"]) for batch in batches] == [4, 2]
    whole = {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}
    assert set(whole) == {"obs", "actions", "rewards", "dones", "values", "logprobs", "advantages", "returns"}
    order = whole["rewards"]
    assert sorted(order.tolist()) == list(range(6))
    assert order.tolist() != list(range(6))
    assert torch.equal(whole["obs"], order[:, None].expand(6, 4))
    assert torch.equal(whole["advantages"], 10 * order)
    assert torch.equal(whole["dones"], order > 3)
    assert torch.equal(torch.cat([batch["rewards"] for batch in filled().iterate_minibatches(4)]), order)


def test_the_next_step_begins_the_next_rollout():
    buffer = filled()
    buffer.set_extras({"returns": torch.zeros(T, N)})
    assert buffer.rewards.tolist() == [[0, 1], [2, 3], [4, 5]]
    buffer.add(torch.ones(N, 4), torch.ones(N, 2), *[torch.ones(N)] * 4)
    assert buffer.rewards.tolist() == [[1, 1]]
    assert "returns" not in next(buffer.iterate_minibatches(2))
    assert torch.equal(filled(2).rewards, buffer.rewards.new_tensor([[6, 7], [8, 9], [10, 11]]))


def test_what_does_not_fit_is_an_error():
    buffer = filled()
    with pytest.raises(ValueError, match=r"^returns: got shape \(2, 3\), expected \(3, 2\)"):
        buffer.set_extras({"returns": torch.zeros(N, T)})
    with pytest.raises(ValueError, match=r"^obs: got shape \(2, 5\), expected \(2, 4\)"):
        buffer.add(torch.ones(N, 5), torch.ones(N, 2), *[torch.ones(N)] * 4)
    with pytest.raises(ValueError, match=r"^rewards: got shape \(2, 1\), expected \(2,\)"):
        buffer.add(torch.ones(N, 4), torch.ones(N, 2), torch.ones(N, 1), *[torch.ones(N)] * 3)
    with pytest.raises(AttributeError, match=r"^reward: no field of the rollout"):
        _ = buffer.reward
