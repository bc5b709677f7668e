"""DQN, and RRD and IRCR over it, in PyTorch: targets, actions in a batch, saving and loops.

The original's results are in test_parity.py; here are the equations by themselves, and numbers worked by hand.
"""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from agents import B, K, O, parameters
from dqn_agents import IMAGE, A, assert_unchanged, each_agent, each_kind, make, make_batch, set_constant

from utils.checkpoint import CheckpointError

# Targets ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("done", [0.0, 1.0])
@pytest.mark.parametrize("rews", [0.5, -2.0, -3.25])
@pytest.mark.parametrize("gamma", [0.0, 0.9])
@pytest.mark.parametrize(("double", "q_next"), [(False, 9.0), (True, 5.0)])
def test_targets_by_a_truth_table(double, q_next, gamma, rews, done):
    """Q = (3, 1, 2), Q' = (5, 9, 7): the greatest Q' is 9; the online network would choose the first, worth 5."""
    agent = make(gamma=gamma, double=double)
    set_constant(agent.value.q, [3.0, 1.0, 2.0])
    set_constant(agent.value_target.q, [5.0, 9.0, 7.0])
    batch = make_batch(acts=torch.ones(B, dtype=torch.long), rews=torch.full((B, 1), rews),
                       done=torch.full((B, 1), done))
    error = abs(1.0 - (rews + gamma * (1 - done) * q_next))
    expected = 0.5 * error**2 if error <= 1 else error - 0.5
    assert float(agent.train_q(batch)["Q_loss"]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("double", [False, True])
def test_each_row_has_its_own_target(double):
    agent, batch = make(gamma=0.9, double=double), make_batch()
    agent.train(make_batch(1))                                  # from here on the target network differs
    with torch.no_grad():
        q, q_next, q_target = (network(batch[name]).double().numpy() for network, name in (
            (agent.value, "obs"), (agent.value, "obs_next"), (agent.value_target, "obs_next")))
    losses = []
    for row in range(B):
        best = int(np.argmax((q_next if double else q_target)[row]))
        y = float(batch["rews"][row]) + 0.9 * (1 - float(batch["done"][row])) * q_target[row, best]
        error = abs(q[row, int(batch["acts"][row])] - y)
        losses.append(0.5 * error**2 if error <= 1 else error - 0.5)
    assert float(agent.train(batch)["Q_loss"]) == pytest.approx(np.mean(losses), rel=1e-5)


def test_huber_is_a_parabola_up_to_1_and_a_line_beyond_whose_slope_is_1():
    """Errors 0.5, 1, 1.5 and 3 of either sign cost 1/8, 1/2, 1 and 5/2, with slopes 1/2, 1, 1 and 1."""
    agent, errors = make(gamma=0.0), torch.tensor([0.5, -0.5, 1.0, -1.0, 1.5, -1.5, 3.0, -3.0])[:, None]
    set_constant(agent.value.q, [0.0, 0.0, 0.0])
    acts = torch.tensor([0, 0, 1, 1, 2, 2, 0, 1])
    loss, _ = agent.q_loss(agent.checked(make_batch(rews=-errors, acts=acts), agent.q_spec()))
    assert float(loss.detach()) == pytest.approx(2 * (0.125 + 0.5 + 1.0 + 2.5) / 8)
    (pull,) = torch.autograd.grad(loss, [agent.value.q.bias])
    assert pull.tolist() == pytest.approx([1 / 8, -1 / 8, 0.0], abs=1e-7)       # 0.5 - 0.5 + 1; 1 - 1 - 1; 1 - 1


def test_the_loss_moves_the_chosen_actions_value_only_and_never_the_target():
    agent = make()
    agent.train(make_batch(acts=torch.full((B,), 1)))
    assert agent.value.q.weight.grad.any(1).tolist() == [False, True, False]
    assert all(parameter.grad is None for parameter in agent.value_target.parameters())


@each_kind
@each_agent
def test_the_target_network_is_constant_until_it_is_copied_whole(alg, basis, dims):
    agent = make(alg, basis, obs_dims=dims)
    main, target = agent.nets["main"], agent.nets["target"]
    start = {name: value.clone() for name, value in target.state_dict().items()}
    torch.testing.assert_close(start, dict(main.state_dict()), rtol=0, atol=0)
    for copies in range(2):
        agent.train(make_batch(copies, dims))
        torch.testing.assert_close(dict(target.state_dict()), start, rtol=0, atol=0)
        assert not any(torch.equal(value, start[name]) for name, value in main.state_dict().items())
        agent.target_update()
        start = {name: value.clone() for name, value in target.state_dict().items()}
        torch.testing.assert_close(start, dict(main.state_dict()), rtol=0, atol=0)


# Actions in a batch -------------------------------------------------------------------------------------------------

WRONG_ACTS = {
    "too large": (lambda x: torch.where(x == x.max(), A, x), f"got {A}, expected integers from 0 to {A - 1}"),
    "negative": (lambda x: x - x.max() - 1, f"got {-A}, expected integers from 0 to {A - 1}"),
    "floats": (lambda x: x.float(), "got dtype float32, expected int64"),
    "float64 arrays": (lambda x: x.double().numpy(), "got dtype float64, expected int64"),
    "booleans": (lambda x: x > 0, "got dtype bool, expected int64"),
    "boolean arrays": (lambda x: (x > 0).numpy(), "got dtype bool, expected int64"),
    "text": (lambda x: x.numpy().astype(str), "got dtype <U"),
    "one-hot": (lambda x: torch.nn.functional.one_hot(x, A), "got shape ("),
    "a column": (lambda x: x[..., None], "got shape ("),
    "too few": (lambda x: x[1:], "got shape ("),
}


@pytest.mark.parametrize("wrong", WRONG_ACTS)
@pytest.mark.parametrize(("alg", "basis", "name"), [("dqn", None, "acts"), ("rrd", "dqn", "acts"),
                                                    ("rrd", "dqn", "rrd_acts")])
@pytest.mark.parametrize("verb", ["train", "train_q"])
def test_wrong_indices_are_refused_in_one_line_and_change_nothing(verb, alg, basis, name, wrong):
    agent, (spoil, complaint) = make(alg, basis), WRONG_ACTS[wrong]
    before = parameters(agent)
    with pytest.raises(ValueError, match=r"expected") as caught:
        getattr(agent, verb)(make_batch(**{name: spoil(make_batch()[name])}))
    assert str(caught.value).startswith(f"batch['{name}']: {complaint}")
    assert "\n" not in str(caught.value)
    assert_unchanged(agent, before)


@pytest.mark.parametrize("convert", [lambda x: x.numpy(), lambda x: x.int(), lambda x: x.to(torch.uint8),
                                     lambda x: x.numpy().astype(np.uint16), lambda x: x.tolist(),
                                     lambda x: x.numpy().astype(">i4")],
                         ids=["int64 array", "int32", "uint8", "uint16 array", "lists", "big-endian"])
def test_indices_of_any_integer_type_are_accepted(convert):
    agent, twin, batch = make("rrd", "dqn"), make("rrd", "dqn"), make_batch()
    agent.train(batch)
    twin.train(batch | {name: convert(batch[name]) for name in ("acts", "rrd_acts")})
    assert_unchanged(twin, parameters(agent))


# Saving -------------------------------------------------------------------------------------------------------------

@each_agent
def test_epsilons_counter_is_saved_and_loaded(alg, basis):
    saved, loaded = (make(alg, basis, warmup=0, eps_decay=100) for _ in range(2))
    saved.step(np.zeros((30, O)), explore=True)
    saved.save_model("model")
    loaded.load_model("model")
    assert getattr(loaded, "basis", loaded).epsilon == getattr(saved, "basis", saved).epsilon == pytest.approx(0.703)


def test_a_checkpoint_from_before_exploring_steps_were_counted_still_loads():
    """Version 0.1.0 wrote such checkpoints for algorithms that do not count exploring steps."""
    agent, before = make("sac"), parameters(make("sac", seed=1))
    agent.load_state_dict({name: value for name, value in before.items() if name != "steps"})
    assert_unchanged(agent, before)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda agent: pickle.loads(pickle.dumps(agent))],
                         ids=["deepcopy", "pickle"])
@each_agent
def test_an_agent_can_be_copied_and_continues_like_its_copy(alg, basis, duplicate):
    agent = make(alg, basis)
    agent.train(make_batch())
    twin = duplicate(agent)
    for one in (agent, twin):
        one.train(make_batch(1))
        one.step(np.zeros((4, O)), explore=True)
    assert_unchanged(twin, parameters(agent))


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop"])
@each_kind
@each_agent
def test_a_loaded_agent_continues_as_the_saved_one(alg, basis, dims, optimizer):
    saved, loaded = (make(alg, basis, obs_dims=dims, optimizer=optimizer, seed=seed) for seed in (0, 1))
    for step in range(2):
        saved.train(make_batch(step, dims))
    saved.save_model("model")
    loaded.load_model("model")
    for agent in (saved, loaded):
        agent.target_update()
        agent.train(make_batch(2, dims))
    assert_unchanged(loaded, parameters(saved))


@pytest.mark.parametrize("changes", [{"optimizer": "rmsprop"}, {"dueling": True}, {"acts_dims": 4},
                                     {"obs_dims": (9, 12, 2)}, {"alg": "rrd", "basis": "dqn"}], ids=str)
def test_a_checkpoint_of_other_networks_or_optimisers_is_refused(changes):
    """(9, 12, 2) has as many features as (12, 9, 2), and all shapes are equal."""
    make(**{"obs_dims": IMAGE} | changes).save_model("other")
    agent = make(obs_dims=IMAGE)
    before = parameters(agent)
    with pytest.raises(CheckpointError, match=r"^other: "):
        agent.load_model("other")
    assert_unchanged(agent, before)


def test_a_checkpoint_of_another_scale_of_observations_is_refused():
    """The inputs of a policy that divides vectors by 255 would be 255 times as large."""
    make(obs_scale=255).save_model("model")
    with pytest.raises(CheckpointError, match=r"^model: obs_scale: got '255.0', expected '1.0'"):
        make().load_model("model")


# Loops --------------------------------------------------------------------------------------------------------------

@each_agent
def test_update_takes_one_batch_per_call_and_never_updates_a_policy(alg, basis):
    agent, seen = make(alg, basis), []

    def sample():
        seen.append(len(seen))
        return make_batch(len(seen))
    metrics = {"Q_loss", "R_loss"} if alg == "rrd" else {"Q_loss"}
    assert [set(agent.update(sample)) for _ in range(3)] == [metrics] * 3
    assert set(agent.train_info) == metrics
    assert agent.step_info == ("Q_average",)
    assert (len(seen), agent.updates) == (3, 3)


@each_agent
def test_training_a_missing_policy_is_refused_in_one_line(alg, basis):
    agent = make(alg, basis)
    before = parameters(agent)
    with pytest.raises(NotImplementedError, match="no policy") as caught:
        agent.train_pi(make_batch())
    assert "\n" not in str(caught.value)
    assert_unchanged(agent, before)


def test_dqn_learns_which_action_pays():
    """The reward is 1 if the action is the position of the 1 in the observation."""
    agent, g = make(obs_dims=(A,), gamma=0.0, q_lr=3e-3), torch.Generator().manual_seed(0)
    for _ in range(150):
        places, acts = (torch.randint(A, (32,), generator=g) for _ in range(2))
        obs = torch.eye(A)[places]
        info = agent.train({"obs": obs, "obs_next": obs, "acts": acts, "done": torch.zeros(32, 1),
                            "rews": (places == acts).float()[:, None]})
    assert float(info["Q_loss"]) < 0.01
    assert agent.step(np.eye(A)).tolist() == [0, 1, 2]


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop"])
def test_rrd_learns_from_returns_alone_which_action_pays(optimizer):
    """Episodes of K steps, of which the agent gets only the mean reward; the reward is 1 for action 2."""
    agent, g = make("rrd", "dqn", gamma=0.0, optimizer=optimizer, q_lr=3e-3), torch.Generator().manual_seed(0)
    for _ in range(200):
        acts = torch.randint(A, (32, K), generator=g)
        obs = torch.randn(32, K, O, generator=g)
        agent.train({"rrd_obs": obs, "rrd_obs_next": obs, "rrd_acts": acts,
                     "rrd_rews": (acts == 2).float().mean(1, keepdim=True), "obs": obs[:, 0], "obs_next": obs[:, 0],
                     "acts": acts[:, 0], "done": torch.zeros(32, 1)})
    rewards = agent.rewards(torch.zeros(A, O), torch.arange(A), torch.zeros(A, O))[:, 0].tolist()
    assert rewards == pytest.approx([0.0, 0.0, 1.0], abs=0.25)
    assert agent.step(np.zeros(O)) == 2
