"""Data sets of Minari: read as episodes, and paid anew."""

from __future__ import annotations

import sys
import warnings

import gymnasium as gym
import minari
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete
from minari.data_collector.episode_buffer import EpisodeBuffer

import relabel as program
import return_decomposition as rd
from adapters import offline, relabelling
from envs.spaces import flat, unscaled
from utils.errors import ConfigError, NotFiniteError

LENGTHS = (3, 5, 1, 4, 2, 6)
VECTORS, ACTIONS = Box(-np.inf, np.inf, (3,), np.float32), Box(np.float32([-2, 0]), np.float32([2, 1]))
PICTURES = Box(0, 255, (40, 40, 2), np.uint8)
PARTS = Dict({"b": Box(-1, 1, (2, 2), np.float32), "a": Discrete(3)})


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "sets"))
    (tmp_path / "sets").mkdir()
    monkeypatch.chdir(tmp_path)


def stacked(space: gym.Space, some: list) -> object:
    """Samples of a space as Minari holds them: a dict of arrays for a Dict."""
    if isinstance(space, Dict):
        return {name: stacked(part, [one[name] for one in some]) for name, part in space.spaces.items()}
    return np.stack(some)


def make(name: str = "some/late-v0", observations: gym.Space = VECTORS, actions: gym.Space = ACTIONS,
         reward=lambda obs: float(np.sum(obs)), **settings: object) -> minari.MinariDataset:
    """Write a data set of short episodes that are paid at their ends."""
    observations.seed(0), actions.seed(0)
    buffers = []
    for number, length in enumerate(LENGTHS):
        obs = [observations.sample() for _ in range(length + 1)]
        late = np.zeros(length)
        late[-1] = sum(reward(one) for one in obs[1:])
        over = np.arange(length) == length - 1
        buffers.append(EpisodeBuffer(
            seed=number, observations=stacked(observations, obs), rewards=late, terminations=over & (number % 2 == 0),
            truncations=over & (number % 2 == 1), actions=np.stack([actions.sample() for _ in range(length)]),
            infos={"x": np.arange(length + 1)}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return minari.create_dataset_from_buffers(name, buffers, observation_space=observations, action_space=actions,
                                                  jpeg_encoding=False, **settings)


def model_for(dataset: minari.MinariDataset, alg: str = "rd", **settings: object):
    observations, actions = offline.spaces_of(dataset)
    return rd.create_decomposition(alg, observation_space=observations, action_space=actions, device="cpu", **settings)


def test_episodes_are_those_that_minari_holds():
    data = make()
    for episode, recorded in zip(offline.episodes_of(data), data.iterate_episodes(), strict=True):
        np.testing.assert_array_equal(episode["obs"], recorded.observations[:-1])
        np.testing.assert_array_equal(episode["obs_next"], recorded.observations[1:])
        np.testing.assert_array_equal(episode["rews"][:, 0], np.float32(recorded.rewards))
        np.testing.assert_array_equal(episode["done"][:, 0], recorded.terminations)
        np.testing.assert_array_equal(episode["acts"], [unscaled(one, ACTIONS) for one in recorded.actions])
        assert np.abs(episode["acts"]).max() <= 1


def test_parts_of_a_dict_are_joined_as_in_training_and_actions_counted_from_0():
    data = make(observations=PARTS, actions=Discrete(4, start=3), reward=lambda obs: float(obs["a"]))
    (episode, *_), recorded = list(offline.episodes_of(data)), data[0]
    expected = [flat(PARTS, {"a": recorded.observations["a"][t], "b": recorded.observations["b"][t]})
                for t in range(LENGTHS[0] + 1)]
    np.testing.assert_array_equal(episode["obs"], expected[:-1])
    np.testing.assert_array_equal(episode["obs_next"], expected[1:])
    np.testing.assert_array_equal(episode["acts"], recorded.actions - 3)
    model = model_for(data)
    model.fit(data, 1)
    assert model.redistribute(episode).shape == (LENGTHS[0],)


@pytest.mark.parametrize("alg", ["rd", "rudder", "uniform"])
def test_a_new_data_set_has_the_learned_rewards_and_all_else_as_it_was(alg, monkeypatch):
    monkeypatch.setattr(offline, "TOGETHER", 4)                 # so that it is written in two parts
    data = make(author="somebody")
    model = model_for(data, alg)
    model.fit(data, 3)
    new = model.relabel(data, "some/paid-v3")
    episodes = list(offline.episodes_of(data))
    for old, one, episode in zip(data.iterate_episodes(), minari.load_dataset("some/paid-v3").iterate_episodes(),
                                 episodes, strict=True):
        np.testing.assert_allclose(one.rewards, model.redistribute(episode).numpy(), rtol=1e-6)
        for name in ("observations", "actions", "terminations", "truncations"):
            np.testing.assert_array_equal(getattr(one, name), getattr(old, name))
        np.testing.assert_array_equal(one.infos["x"], old.infos["x"])
    assert [facts["seed"] for facts in new.storage.get_episode_metadata(range(6))] == list(range(6))
    assert new.storage.metadata["author"] == {"somebody"}
    assert new.storage.metadata["description"] == f"some/late-v0 with the rewards of {alg}"


def test_part_of_a_data_set_is_relabelled():
    data = make().filter_episodes(lambda one: len(one) > 3)
    new = model_for(data).relabel(data, "some/long-v0")
    assert [len(one) for one in new.iterate_episodes()] == [5, 4, 6]


def test_pictures():
    data = make(observations=PICTURES, actions=Discrete(3), reward=lambda obs: float(obs.mean()))
    observations, _ = offline.spaces_of(data)
    assert observations == PICTURES
    model = model_for(data)
    assert np.isfinite(model.fit(data, 2)["R_loss"])
    new = model.relabel(data, "some/paid-v0")
    np.testing.assert_array_equal(new[0].observations, data[0].observations)
    assert len(set(new[0].rewards)) == 3


def test_fitting_a_data_set_is_fitting_its_episodes():
    data = make()
    one, other = model_for(data), model_for(data)
    seen = []
    one.fit(data, 3, lambda number, info: seen.append((number, *info)))
    other.fit(list(offline.episodes_of(data)), 3)
    assert seen == [(1, "R_loss"), (2, "R_loss"), (3, "R_loss")]
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])


def test_episodes_of_any_kind_are_relabelled():
    data = make()
    model = model_for(data)
    episodes = [{**one, "label_end": np.arange(len(one["rews"]))[:, None] % 2 == 1}
                for one in offline.episodes_of(data)]
    for one, paid in zip(episodes, model.relabel(iter(episodes)), strict=True):
        assert set(paid) == {"obs", "obs_next", "acts", "done", "rews"}
        assert paid["obs"] is one["obs"]
        np.testing.assert_array_equal(paid["rews"][:, 0], model.redistribute(one).numpy())
        assert paid["rews"].dtype == np.float32


def test_a_model_that_fails_leaves_no_data_set_behind(monkeypatch):
    monkeypatch.setattr(offline, "TOGETHER", 2)
    data = make()
    model = model_for(data)
    pay = model.redistribute

    def fails(episode):
        if len(episode["rews"]) == 4:
            raise KeyboardInterrupt
        return pay(episode)
    model.redistribute = fails
    with pytest.raises(KeyboardInterrupt):
        model.relabel(data, "some/paid-v0")
    assert minari.list_local_datasets().keys() == {"some/late-v0"}
    model.redistribute = pay
    assert len(model.relabel(data, "some/paid-v0")) == 6


@pytest.mark.parametrize(("out", "complaint"), [
    (None, "out: got None, expected the id of a new data set, such as pendulum/rd-v0"),
    ("rd", "out: got 'rd', expected the id"), ("../rd-v0", "out: got '../rd-v0', expected the id"),
    ("some/late-v0", "out: got 'some/late-v0', which exists already")])
def test_an_id_that_cannot_be_is_one_line(out, complaint):
    data = make()
    before = data[1].rewards
    with pytest.raises(ConfigError) as error:
        model_for(data).relabel(data, out)
    assert str(error.value).startswith(complaint)
    np.testing.assert_array_equal(minari.load_dataset("some/late-v0")[1].rewards, before)


def test_a_number_that_is_not_finite_is_named():
    rewards = iter([1.0, 2.0, np.inf])
    data = make(reward=lambda obs: next(rewards, 0.0))
    with pytest.raises(NotFiniteError) as error:
        list(offline.episodes_of(data))
    assert str(error.value) == "reward: got inf at step 3 of episode 0; expected a finite float32"


@pytest.mark.parametrize("spaces", [
    {"actions": gym.spaces.MultiBinary(2)}, {"observations": gym.spaces.Sequence(Discrete(2))}])
def test_a_space_that_no_agent_has_is_one_line(spaces):
    class Data:
        observation_space, action_space = spaces.get("observations", VECTORS), spaces.get("actions", ACTIONS)
    with pytest.raises(ConfigError, match=r"^dataset: (acts|observes)"):
        offline.spaces_of(Data)


def test_actions_without_bounds_stay_as_they_are():
    space = Box(-np.inf, np.inf, (2,), np.float32)
    given = np.float32([[3, -7]])
    np.testing.assert_array_equal(offline.actions_of(given, space), given)


# The program --------------------------------------------------------------------------------------------------------

def test_the_program_judges_by_episodes_that_were_held_out_and_writes(capsys):
    make()
    words = ["some/late-v0", "--method=rd", "--out=some/rd-v0", "--device=cpu"]
    assert program.main([*words, "--updates=20", "--holdout=0.4", "--set", "r_lr=1e-3"]) == 0
    shown = capsys.readouterr().out
    assert "update 20/20  R_loss " in shown
    assert "fitted (4)      held out (2)\n" in shown
    assert "R2 of returns" in shown
    assert shown.endswith("written to some/rd-v0: 6 episodes, 21 steps\n")
    assert program.main([*words, "--updates=20"]) == 2
    assert capsys.readouterr().err.startswith("relabel.py: out: got 'some/rd-v0', which exists already")


@pytest.mark.parametrize(("words", "complaint"), [
    (["--set=r_lr"], "--set: got 'r_lr', expected NAME=VALUE"), (["--set", "r_lrr=1"], "r_lrr: unknown setting"),
    (["--holdout=1"], "holdout: "), (["--updates=-1"], "updates: "), (["--method=rdd"], "alg: got 'rdd'; did you mean"),
    (["--method=sac"], "alg: got 'sac'"), (["--set=likelihood=bernoulli"], "batch['ep_bag_return']: got "),
    (["--set=cell=gru"], "cell: not a setting of rd"),
])
def test_a_wrong_argument_is_one_line(words, complaint, capsys):
    make()
    given = ["some/late-v0", "--method=rd", "--out=some/rd-v0", "--device=cpu", "--updates=1", *words]
    assert program.main(given) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"relabel.py: {complaint}")
    assert error.count("\n") == 1


def test_an_unknown_data_set_is_one_line_with_those_that_are_there(capsys):
    make()
    assert program.main(["some/dense-v0", "--method=rd", "--out=some/rd-v0"]) == 2
    assert capsys.readouterr().err == (
        "relabel.py: dataset: got 'some/dense-v0', expected the id of a local data set (some/late-v0); "
        "`minari download` fetches one\n")


def test_without_minari_the_extra_is_named(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "minari", None)
    assert program.main(["some/late-v0", "--method=rd", "--out=some/rd-v0"]) == 2
    assert capsys.readouterr().err == ("relabel.py: minari is not installed; `pip install -e '.[minari]'` installs "
                                       "it\n")


def test_episodes_held_out_are_not_learned_from():
    episodes = [{"rews": np.full((3, 1), number)} for number in range(20)]
    for seed in range(5):
        learned, held = relabelling.split(episodes, 0.25, seed)
        numbers = [[int(one["rews"][0, 0]) for one in group] for group in (learned, held)]
        assert len(numbers[1]) == 5
        assert sorted([*numbers[0], *numbers[1]]) == list(range(20))
    assert relabelling.split(episodes, 0.0, 0)[1] == []
    assert [len(group) for group in relabelling.split(episodes[:2], 0.01, 0)] == [1, 1]
    with pytest.raises(ConfigError, match=r"^holdout: got 0\.1 of 1 episode"):
        relabelling.split(episodes[:1], 0.1, 0)


def test_rewards_of_steps_are_compared_where_the_data_set_has_them():
    rng = np.random.default_rng(0)
    dense = [{"rews": rng.normal(size=(5, 1))} for _ in range(3)]
    late = [{"rews": np.float64([[0], [0], [one]])} for one in (1, 2, 3)]

    class Model:
        unit = "reward"

        @staticmethod
        def redistribute(episode):
            return torch.as_tensor(2 * episode["rews"][:, 0] + 1)
    assert relabelling.compared(Model, dense)["pearson_within"] == pytest.approx(1)
    assert relabelling.compared(Model, late)["pearson_within"] is None
    assert relabelling.compared(Model, late)["pearson_across"] == pytest.approx(1)
