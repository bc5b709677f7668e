"""What pays a rollout: complete episodes, open ones, episodes over several rollouts, and what is fitted before."""

from __future__ import annotations

import pytest
import torch
from rollouts import ACTS, OBS, fill, make
from torch import nn

from algorithm import create_agent, register_decomposition
from algorithm.decomposition.base import Decomposition
from algorithm.engine import create_engine
from algorithm.engine.iteration import iterate
from algorithm.gae import gae
from algorithm.replay_buffer.kept import NoReplay
from algorithm.replay_buffer.open_rows import KEPT, OpenRows
from utils.errors import ConfigError

SMALL = dict(rrd_batch_size=8, rrd_sample_size=4, buffer_size=500, test_timesteps=100)


def joined(alg="rrd", basis="ppo", **settings):
    small = SMALL if alg == "rrd" else {name: SMALL[name] for name in ("buffer_size", "test_timesteps")}
    return make(alg, basis_alg=basis, **small | settings)


# Episodes of rollouts ---------------------------------------------------------------------------------------------

def stream(steps: int, rows: int, seed: int):
    """A long record of steps whose rewards number them, and where episodes end."""
    generator = torch.Generator().manual_seed(seed)
    over = torch.rand(steps, rows, generator=generator) < 0.2
    number = torch.arange(steps * rows, dtype=torch.float32).view(steps, rows)
    fields = {"obs": number[..., None], "acts": number[..., None], "obs_next": number[..., None] + 0.5, "rews": number,
              "terminated": over}
    return fields, over


@pytest.mark.parametrize("length", [3, 5, 40])
def test_episodes_are_whole_however_rollouts_cut_them(length):
    fields, over = stream(40, 3, 0)
    rows, found = OpenRows(), {}
    for start in range(0, 40, length):
        span = slice(start, start + length)
        for one in rows.close({name: value[span].clone() for name, value in fields.items()}, over[span]):
            found[one.row, start + one.start] = one
    for row in range(3):
        begin = 0
        for end in over[:, row].nonzero()[:, 0].tolist():
            one = found.pop((row, begin))
            assert one.end - one.start == end + 1 - begin
            assert torch.equal(one.fields["rews"][:, 0], fields["rews"][begin:end + 1, row])
            assert one.fields["done"][:, 0].tolist() == [0.0] * (end - begin) + [1.0]
            begin = end + 1
    assert not found


def test_open_episodes_are_saved():
    fields, over = stream(20, 2, 1)
    over[5:12] = False
    one, other = OpenRows(), OpenRows()
    first, second = ({name: value[span] for name, value in fields.items()} for span in (slice(0, 9), slice(9, 20)))
    one.close(first, over[:9])
    other.restore(one.tensors(), torch.device("cpu"))
    ours, theirs = one.close(second, over[9:]), other.close(second, over[9:])
    assert [(a.row, a.start, a.end) for a in ours] == [(b.row, b.start, b.end) for b in theirs]
    assert all(torch.equal(a.fields[name], b.fields[name]) for a, b in zip(ours, theirs, strict=True)
               for name in a.fields)
    assert any(one.start < 0 for one in ours)


def test_steps_in_which_an_environment_rests_belong_to_no_episode():
    fields, over = stream(8, 1, 2)
    over[:], active = False, torch.ones(8, 1, dtype=torch.bool)
    over[2], over[7] = True, True
    active[3:5] = False                                 # until its group begins anew
    first, second = OpenRows().close({name: fields[name] for name in KEPT}, over, active)
    assert (first.start, first.end, second.start, second.end) == (0, 3, 5, 8)


# Payments ---------------------------------------------------------------------------------------------------------

def test_a_markov_model_pays_every_step_by_itself():
    agent, buffer = joined()
    fill(agent, buffer)
    rews, mask = agent.payments(buffer)
    expected = agent.rewards(buffer["obs"], buffer["acts"].clamp(-1, 1), buffer["obs_next"])[..., 0]
    assert mask is None
    torch.testing.assert_close(rews, expected)


def test_it_is_shown_the_action_that_acted():
    agent, buffer = joined(log_std_init=2.0)
    fill(agent, buffer)
    assert (buffer["acts"].abs() > 1).any()
    assert all(one.fields["acts"].abs().max() <= 1 for one in buffer.ended)
    rews, _ = agent.payments(buffer)
    unclipped = agent.rewards(buffer["obs"], buffer["acts"], buffer["obs_next"])[..., 0]
    assert not torch.allclose(rews, unclipped)


def test_before_the_first_episode_nothing_is_paid_and_nothing_learned():
    agent, buffer = joined()
    fill(agent, buffer, ends=0.0)
    engine, _ = create_engine(agent.config, agent, buffer)
    before = {name: value.clone() for name, value in agent.state_dict().items()}
    sums = [one.items() for one in iterate(engine, 4)]
    assert sums == [[]]
    assert all(torch.equal(value, before[name]) for name, value in agent.state_dict().items())


@pytest.mark.parametrize("alg", ["uniform", "ircr"])
def test_whole_episodes_are_paid_and_open_ones_do_not_count(alg):
    agent, buffer = joined(alg)
    for seed in range(3):                               # episodes span rollouts
        fill(agent, buffer, seed=seed)
        rews, mask = agent.payments(buffer)
        over = buffer["terminated"] | buffer["truncated"]
        complete = over.flip(0).cumsum(0).flip(0) > 0   # an end follows in this rollout
        assert torch.equal(mask, complete)
        assert not rews[~mask].any()
        for one in buffer.ended:
            total, length = float(one.fields["rews"].double().sum()), one.end - one.start
            low, high = (float(end) for end in agent_range(buffer)) if alg == "ircr" else (None, None)
            paid = total / length if alg == "uniform" else (total - low) / (high - low)
            found = rews[max(one.start, 0):one.end, one.row]
            torch.testing.assert_close(found, torch.full_like(found, paid))
    assert any(one.start < 0 for one in buffer.ended)


def agent_range(buffer):
    return buffer.episode_fields()["return_range"]


def test_the_reward_of_the_environment_is_never_seen_but_in_returns():
    """The same steps with other rewards, of equal returns: the policy learns the same."""
    found = []
    for late in (False, True):
        agent, buffer = joined("uniform", normalize_advantages="rollout")
        fill(agent, buffer, ends=0.3)
        if late:
            for one in buffer.ended:
                given = one.fields["rews"]
                one.fields["rews"] = torch.zeros_like(given)
                one.fields["rews"][-1] = given.sum()
            buffer["rews"][:] = 1e6
        agent.finish_rollout(buffer, buffer.last_obs)
        found.append(buffer["advantages"] * buffer["mask"])
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)


def test_time_limits_bootstrap_and_ends_do_not():
    agent, buffer = joined("uniform")
    fill(agent, buffer, ends=0.3)
    agent.finish_rollout(buffer, buffer.last_obs)
    rews, mask = agent.payments(buffer)
    final = torch.zeros_like(rews)
    cut = buffer["truncated"]
    final[cut] = agent.policy.get_value(buffer["obs_next"][cut])
    expected, _ = gae(rews, buffer["values"], agent.policy.get_value(buffer.last_obs), buffer["terminated"], cut, final,
                      agent.config.gamma, agent.config.gae_lambda)
    torch.testing.assert_close(buffer["advantages"][mask], expected[mask])
    assert cut.any()


def test_it_is_fitted_before_it_pays():
    agent, buffer = joined(r_lr=0.05, fit_updates=20)
    fill(agent, buffer)
    before = agent.payments(buffer)[0]
    engine, _ = create_engine(agent.config, agent, buffer)
    names = [name for sums in iterate(engine, 4) for name, *_ in sums.items()]
    assert names == ["R_loss", "Pi_loss", "V_loss", "Entropy", "KL", "Clip_share"]
    after = agent.payments(buffer)[0]
    assert not torch.allclose(before, after)
    final = torch.zeros_like(after)
    final[buffer["truncated"]] = agent.policy.get_value(buffer["obs_next"][buffer["truncated"]])
    groups = {group["name"]: group["t"] for _, group in agent.groups()}
    assert groups == {"policy": agent.config.train_batches, "reward": 20}


def test_a_model_that_learns_learns_the_return():
    """Episodes whose return is the sum of an observed number: RRD's rewards come to be that number."""
    agent, buffer = joined(r_lr=3e-3, fit_updates=300, rrd_batch_size=64, rrd_sample_size=4)
    kept = buffer.replay
    for seed in range(20):
        buffer.replay = NoReplay()
        fill(agent, buffer, seed=seed)
        for one in buffer.ended:
            kept.store_episode(one.fields | {"rews": one.fields["obs"][:, :1].clone()})
    buffer.replay = kept
    for _ in agent.fit(buffer, 1):
        pass
    true = buffer["obs"][..., 0]
    paid = agent.payments(buffer)[0]
    together = torch.stack([true.flatten(), paid.flatten()])
    assert torch.corrcoef(together)[0, 1] > 0.5


# Decompositions of one's own --------------------------------------------------------------------------------------

class Last(Decomposition):
    """Pays the last step the whole return."""

    markov = joint = False

    def credit(self, episodes, mask):
        returns = episodes["rews"].sum((1, 2))
        last = mask.cumsum(1) == mask.sum(1, keepdim=True)
        return torch.where(last, returns[:, None], 0.0)


class Redistributes(Decomposition):
    """Only says what an episode is paid."""

    markov = joint = False

    def redistribute(self, episode, mask=None):
        return torch.arange(len(episode["rews"]), dtype=torch.float32)


class Speechless(Decomposition):
    markov = True


class Predicts(Decomposition):
    joint = False

    def __init__(self, config, generator=None):
        super().__init__(config, generator)
        self.net = nn.Linear(2 * OBS + ACTS, 1)

    def predict(self, obs, acts, obs_next):
        return self.net(torch.cat([obs, self.encode_acts(acts), obs_next], -1))


@pytest.mark.usefixtures("forget")
def test_any_model_that_redistributes_pays():
    register_decomposition("last")(Last)
    agent, buffer = joined("last")
    fill(agent, buffer)
    rews, mask = agent.payments(buffer)
    for one in buffer.ended:
        assert float(rews[one.end - 1, one.row]) == pytest.approx(float(one.fields["rews"].sum()), rel=1e-4)
    register_decomposition("numbers")(Redistributes)
    agent, buffer = joined("numbers", basis="a2c", discrete=True)
    fill(agent, buffer)
    rews, mask = agent.payments(buffer)
    for one in buffer.ended:
        assert rews[one.end - 1, one.row] == one.end - one.start - 1
    register_decomposition("predicts")(Predicts)
    agent, buffer = joined("predicts")
    fill(agent, buffer)
    rews, mask = agent.payments(buffer)
    assert mask is None
    assert rews.any()


@pytest.mark.usefixtures("forget")
def test_a_model_that_cannot_pay_is_one_line():
    register_decomposition("speechless")(Speechless)
    with pytest.raises(ConfigError, match="basis_alg: got 'ppo', but speechless cannot pay a rollout"):
        joined("speechless")


def test_it_is_saved_with_the_agent(tmp_path):
    agent, buffer = joined()
    fill(agent, buffer)
    for _ in agent.fit(buffer, 3):
        pass
    agent.save_model(tmp_path / "one.safetensors")
    other = create_agent(agent.config)
    other.load_model(tmp_path / "one.safetensors")
    ours, theirs = agent.state_dict(), other.state_dict()
    assert any(name.startswith("nets.rrd") for name in ours)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_minibatch_says_which_of_its_steps_are_paid():
    agent, buffer = joined("uniform")
    fill(agent, buffer)
    _, paid = agent.payments(buffer)
    agent.finish_rollout(buffer, buffer.last_obs)
    agent.begin_updates(buffer, torch.arange(buffer.count).repeat(agent.config.n_epochs, 1))
    batch = buffer.sample()
    assert 0 < paid.sum() < paid.numel()
    assert torch.equal(batch["mask"] > 0, paid.flatten()[:len(batch["mask"])])
