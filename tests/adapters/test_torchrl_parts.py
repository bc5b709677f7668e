"""Return decomposition as parts of TorchRL: where episodes end, what is stored, and what is paid."""

from __future__ import annotations

import importlib.util
import io
from contextlib import redirect_stdout
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tensordict import TensorDict
from torchrl.data import Bounded, Categorical, Composite, LazyTensorStorage, OneHot, TensorDictReplayBuffer, Unbounded
from torchrl.envs import Compose, GymEnv, RewardSum, TransformedEnv

from adapters.torchrl import PAID, Decomposer, LateReward, PayRollouts, PaySampled, StoreCredit, episodes_in
from adapters.torchrl_episodes import Cutter, Form
from utils.errors import ConfigError

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
SMALL = {"hidden_sizes": (8, 8), "rrd_batch_size": 16, "rrd_sample_size": 4}


def env_of(action=None) -> SimpleNamespace:
    """What a `Form` reads of an environment of 3 numbers."""
    acts = Bounded(-3.0, 1.0, shape=(2,)) if action is None else action
    return SimpleNamespace(batch_size=torch.Size([]), observation_spec=Composite(observation=Unbounded((3,))),
                           full_action_spec=Composite(action=acts))


def stream(length: int, seed: int = 0, longest: int = 6, action=None) -> TensorDict:
    """Steps of one environment, whose episodes have random lengths and are paid at their ends; "t" is the time."""
    g = torch.Generator().manual_seed(seed)
    done, left = torch.zeros(length, 1, dtype=torch.bool), 0
    for t in range(length):
        left = left - 1 if left else int(torch.randint(longest, (), generator=g))
        done[t] = left == 0
    seen = torch.randn(length + 1, 3, generator=g)
    acts = torch.rand(length, 2, generator=g) * 4 - 3 if action is None else action(length, g)
    reward = torch.where(done, torch.randn(length, 1, generator=g), 0.0)
    terminated = done & (torch.rand(length, 1, generator=g) < 0.5)
    after = {"observation": seen[1:], "reward": reward, "done": done, "terminated": terminated}
    return TensorDict({"observation": seen[:-1], "action": acts, "t": torch.arange(length),
                       "next": TensorDict(after, [length])}, [length])


def whole(rows: TensorDict) -> list[list[int]]:
    """The times of the episodes of a stream that end."""
    ends = rows["next", "done"].flatten().nonzero().flatten().tolist()
    return [list(range(start, end + 1)) for start, end in zip([0, *(end + 1 for end in ends)], ends, strict=False)]


# Episodes -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("flat", [False, True], ids=["rows", "flat"])
@pytest.mark.parametrize("length", [1, 4, 7, 60])
def test_episodes_are_whole_wherever_batches_are_cut(length, flat):
    """Of three environments, a row each, or flat with the collector's numbers of trajectories."""
    rows = torch.stack([stream(60, seed) for seed in range(3)])
    if flat:
        before = torch.cat([torch.zeros(3, 1), rows["next", "done"][..., 0].float().cumsum(1)[:, :-1]], 1)
        rows.set(("collector", "traj_ids"), before.long() * 3 + torch.arange(3)[:, None])
    cutter, found = Cutter(), [[], [], []]
    for start in range(0, 60, length):
        batch = rows[:, start:start + length]
        for episode, numbers in cutter.add(batch.reshape(-1) if flat else batch):
            one = next(i for i in range(3) if torch.equal(rows[i]["observation"][episode["t"]], episode["observation"]))
            found[one].append(episode["t"].tolist())
            assert torch.equal(batch.reshape(-1)[numbers]["t"], episode["t"][-len(numbers):])
    assert found == [whole(rows[i]) for i in range(3)]


def test_padded_trajectories_are_whole_episodes():
    rows = torch.stack([stream(8, 0)[:8], stream(8, 1)[:8]])
    rows.set(("collector", "mask"), torch.arange(8) < torch.tensor([[3], [8]]))
    found = Cutter().add(rows)
    assert [episode["t"].tolist() for episode, _ in found] == [[0, 1, 2], list(range(8))]
    assert [numbers.tolist() for _, numbers in found] == [[0, 1, 2], list(range(8, 16))]


@pytest.mark.parametrize("spec", [OneHot(4), Categorical(4), Categorical(4, shape=(1,))])
def test_discrete_actions_are_indices(spec):
    def draw(length, g):
        return torch.stack([spec.rand() for _ in range(length)])
    rows = stream(9, action=draw)
    form = Decomposer("rrd", env_of(spec), **SMALL).form
    expected = rows["action"].float().argmax(-1) if isinstance(spec, OneHot) else rows["action"].reshape(9)
    assert torch.equal(form.acts(rows), expected)
    decomposer = Decomposer("rrd", env_of(spec), **SMALL)
    decomposer.observe(rows)
    decomposer.update()
    assert decomposer.rewards(rows).shape == (9, 1)


def test_actions_are_scaled_from_their_bounds():
    form = Decomposer("rrd", env_of(), **SMALL).form
    rows = stream(3).set("action", torch.tensor([[-3.0, 1.0], [-1.0, 0.0], [1.0, 9.0]]))
    assert form.acts(rows).tolist() == [[-1, 1], [0, 0.5], [1, 1]]


@pytest.mark.parametrize(("spec", "message"), [
    (Unbounded((2,)), r"action: got Unbounded\w* of shape"), (Bounded(-1, 1, shape=(2, 2)), "expected Bounded of one"),
    (Bounded(0, float("inf"), shape=(2,)), r"action: got Box\(0.0, inf, \(2,\), float32\), expected finite bounds")])
def test_actions_of_another_kind_are_refused(spec, message):
    with pytest.raises(ConfigError, match=message):
        Decomposer("rrd", env_of(spec))
    with pytest.raises(ConfigError, match="observation: got 'pixels', expected one of observation"):
        Decomposer("rrd", env_of(), observation="pixels")


def test_an_action_of_one_possible_value_is_zero():
    low, high = torch.tensor([-3.0, 2.0]), torch.tensor([1.0, 2.0])
    form, rows = Form(env_of(Bounded(low, high))), TensorDict({"action": torch.tensor([[0.0, 2.0], [-3.0, 2.0]])}, [2])
    assert form.acts(rows).tolist() == [[0.5, 0.0], [-1.0, 0.0]]


# Replay -------------------------------------------------------------------------------------------------------------

def replay_of(transform, size=200) -> TensorDictReplayBuffer:
    return TensorDictReplayBuffer(storage=LazyTensorStorage(size), transform=transform, batch_size=16)


def test_sampled_steps_are_paid_by_the_model_and_the_storage_stays_as_it_is():
    decomposer = Decomposer("rrd", env_of(), **SMALL)
    replay, rows = replay_of(PaySampled(decomposer)), stream(50)
    replay.extend(rows[:20].clone())
    assert (replay.sample()["next", "reward"] == 0).all()               # nothing is learned yet
    replay.extend(rows[20:].clone())
    first = decomposer.update()["R_loss"]
    for _ in range(30):
        last = decomposer.update()["R_loss"]
    assert (last < first, decomposer.updates) == (True, 31)
    batch = replay.sample()
    expected = decomposer.model.rewards(batch["observation"], (batch["action"] + 1) / 2, batch["next", "observation"])
    assert torch.equal(batch["next", "reward"], expected)
    view = replay[5:25]                                 # a view of the storage
    assert torch.equal(view["next", "reward"], decomposer.rewards(rows[5:25]))
    assert torch.equal(replay.storage.get(slice(None))["next", "reward"], rows["next", "reward"])
    assert not torch.equal(batch["next", "reward"], rows["next", "reward"][batch["index"]])
    assert decomposer.replay.episodes_stored == len(whole(rows))


def test_a_model_that_was_saved_pays_the_same():
    one, two = (Decomposer("rrd", env_of(), seed=seed, **SMALL) for seed in (0, 1))
    one.observe(stream(30))
    two.observe(stream(30))
    one.update(3)
    two.load_state_dict(one.state_dict())
    assert torch.equal(one.rewards(stream(9)), two.rewards(stream(9)))
    one.update(1)
    assert two.updates == 3
    assert not torch.equal(one.rewards(stream(9)), two.rewards(stream(9)))


def test_credit_is_stored_when_an_episode_is_complete():
    """Uniform pays R/T, which is known by hand; steps of open episodes are not in the replay."""
    decomposer = Decomposer("uniform", env_of())
    replay, rows = replay_of(StoreCredit(decomposer)), stream(40)
    for start in range(0, 40, 3):
        replay.extend(rows[start:start + 3].clone())
    episodes = whole(rows)
    assert replay[:]["t"].tolist() == [t for times in episodes for t in times]
    for times in episodes:
        mean = rows["next", "reward"][times].sum() / len(times)
        here = [replay[:]["t"].tolist().index(t) for t in times]
        assert torch.allclose(replay[:]["next", "reward"][here], mean.expand(len(times), 1))
    assert torch.equal(replay.storage.get(slice(None))["next", "reward"].flatten(),
                       rows["next", "reward"].flatten()[:sum(map(len, episodes))])
    assert replay.sample()["next", "reward"].shape == (16, 1)
    with pytest.raises(ConfigError, match=r"got uniform, which pays a step by its whole episode; expected StoreCredit"):
        PaySampled(decomposer)


def test_credit_is_renewed_by_the_model_as_it_is_now():
    decomposer = Decomposer("rudder", env_of(), fit_every=10)
    transform = StoreCredit(decomposer)
    replay, rows = replay_of(transform, 25), stream(60)
    for start in range(0, 60, 10):
        replay.extend(rows[start:start + 10].clone())
    before = replay.storage.get(slice(None))["credit"].clone()
    decomposer.update(5)
    paid = transform.pay_anew(replay)
    held, cursor = replay.storage.get(slice(None)), replay.writer._cursor
    spans = list(episodes_in(held, cursor))
    assert paid == len(spans) >= 2
    for span in spans:
        assert torch.allclose(held["credit"][span], decomposer.credit(held[span]))
        assert held["t"][span].diff().eq(1).all()                       # no step of another episode is between
    assert not torch.equal(before, held["credit"])


# On policy ----------------------------------------------------------------------------------------------------------

def test_rollouts_are_paid_after_the_model_has_learned_and_open_episodes_are_not():
    rows = torch.stack([stream(30, seed) for seed in range(2)])
    hook = PayRollouts(Decomposer("uniform", env_of()), 5)
    for start in (0, 10, 20):
        batch = hook(rows[:, start:start + 10])
        for i in range(2):
            expected, there = torch.zeros(30), torch.zeros(30, dtype=torch.bool)
            for times in (times for times in whole(rows[i]) if start <= times[-1] < start + 10):
                expected[times] = rows[i]["next", "reward"][times].sum() / len(times)
                there[times] = True
            assert torch.allclose(batch["next", "reward"][i].flatten(), expected[start:start + 10])
            assert torch.equal(batch[PAID][i], there[start:start + 10])
    assert torch.equal(rows["next", "reward"][:, :, 0].ne(0), rows["next", "done"][:, :, 0])      # as it was


def test_a_markov_model_pays_all_steps_once_it_has_learned():
    decomposer, rows = Decomposer("rrd", env_of(), **SMALL), stream(30)
    hook, first = PayRollouts(decomposer, 2), whole(rows)[0][-1]
    early = hook(rows[:first].clone()) if first else rows[:0]
    assert not len(early) or not early[PAID].any()
    late = hook(rows[first:].clone())
    assert late[PAID].all()
    assert decomposer.updates == 2
    assert torch.equal(late["next", "reward"], decomposer.rewards(rows[first:]))


def test_a_late_reward_is_the_return_at_the_end():
    env = TransformedEnv(GymEnv("InvertedPendulum-v5"), Compose(RewardSum(), LateReward()))
    env.set_seed(0)
    rows = env.rollout(40, break_when_any_done=False)
    done = rows["next", "done"]
    assert done.any()
    assert (rows["next", "reward"][~done] == 0).all()
    assert torch.equal(rows["next", "reward"][done], rows["next", "episode_reward"][done].float())


@pytest.mark.parametrize(("name", "budget"), [("sac", (60, 40, 20)), ("ppo", (100, 100))])
def test_the_examples_run(name, budget):
    path = EXAMPLES / f"torchrl_{name}.py"
    assert len(path.read_text().splitlines()) <= 60
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with redirect_stdout(io.StringIO()) as said:
        returns = module.main(*budget)
    assert len(returns) > 3
    assert "mean return" in said.getvalue()
