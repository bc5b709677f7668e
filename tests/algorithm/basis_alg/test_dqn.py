"""DQN, and RRD and IRCR over it, in PyTorch: targets, networks, exploration, settings and optimisers.

What the original computed is in test_parity.py; here are the equations by themselves, numbers worked by hand.
"""

from __future__ import annotations

import copy
import math
import pickle
from argparse import Namespace

import numpy as np
import pytest
import torch
from agents import B, K, N, O, parameters
from runs import SMALL, run

from algorithm import create_agent
from algorithm.basis_alg.dqn_torch import DQN, ConvQNetwork
from utils.checkpoint import CheckpointError
from utils.errors import ConfigError
from utils.optimizers import TFAdam, TFRMSProp
from utils.settings.resolve import resolve
from utils.torch_utils import ConvTrunk, SameConv2d

A = 3
IMAGE = (12, 9, 2)
OVER = [("dqn", None), ("rrd", "dqn"), ("ircr", "dqn")]
OVER_IDS = ["dqn", "rrd-dqn", "ircr-dqn"]
each_agent = pytest.mark.parametrize(("alg", "basis"), OVER, ids=OVER_IDS)
each_kind = pytest.mark.parametrize("dims", [(O,), IMAGE], ids=["vectors", "images"])


def make(alg: str = "dqn", basis: str | None = None, **settings):
    sizes = {"obs_dims": (O,), "acts_dims": (A,), "device": "cpu"}
    return create_agent(Namespace(**sizes | {"alg": alg, "basis_alg": basis} | settings))


def make_batch(seed: int = 0, dims: tuple[int, ...] = (O,), **changes) -> dict[str, torch.Tensor]:
    """All that DQN and RRD over it read; actions are indices."""
    g = torch.Generator().manual_seed(seed)

    def randn(*shape):
        return torch.randn(shape, generator=g)
    return {
        "obs": randn(B, *dims), "obs_next": randn(B, *dims), "acts": torch.randint(A, (B,), generator=g),
        "rews": randn(B, 1), "done": (torch.arange(B) % 2).float()[:, None],
        "rrd_obs": randn(N, K, *dims), "rrd_obs_next": randn(N, K, *dims),
        "rrd_acts": torch.randint(A, (N, K), generator=g),
        "rrd_rews": randn(N, 1), "rrd_var_coef": torch.full((N, 1), 0.5),
    } | changes


def value_of(agent) -> torch.nn.Module:
    return agent.nets["main"]["value"]


def set_constant(layer: torch.nn.Linear, values: list[float]) -> None:
    """Whatever it gets, the layer gives these values."""
    torch.nn.init.zeros_(layer.weight)
    layer.bias.data = torch.tensor(values)


def assert_unchanged(agent, before: dict) -> None:
    torch.testing.assert_close(agent.state_dict(), before, rtol=0, atol=0)


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
    agent.train(make_batch(1))                                  # the target network is another one from here on
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
    """Errors 0.5, 1, 1.5 and 3 of either sign cost 1/8, 1/2, 1 and 5/2, and pull by 1/2, 1, 1 and 1."""
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
def test_the_target_network_stands_still_and_is_then_copied_whole(alg, basis, dims):
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


# Dueling ------------------------------------------------------------------------------------------------------------

def test_dueling_adds_the_advantages_less_their_mean_to_the_state_value():
    agent = make(obs_dims=IMAGE, dueling=True)
    set_constant(agent.value.q_base, [10.0])
    set_constant(agent.value.q_act, [1.0, 2.0, 6.0])            # their mean is 3
    q = agent.value(make_batch(dims=IMAGE)["obs"])
    torch.testing.assert_close(q, torch.tensor([[8.0, 9.0, 13.0]]).expand(B, 3))


def test_both_heads_of_dueling_see_the_same_features_through_layers_of_their_own():
    network = ConvQNetwork(IMAGE, A, dueling=True, generator=torch.Generator().manual_seed(0))
    obs = make_batch(dims=IMAGE)["obs"]
    features = network.trunk(obs)
    advantage = network.q_act(network.q_dense_act(features).relu())
    base = network.q_base(network.q_dense_base(features).relu())
    torch.testing.assert_close(network(obs), base + advantage - advantage.mean(1, keepdim=True))
    torch.testing.assert_close(network(obs).mean(1, keepdim=True), base)
    assert network.q_dense_base.weight.shape == network.q_dense_act.weight.shape == (512, network.features)


@each_agent
def test_dueling_over_vectors_which_have_no_convolutions_is_refused(alg, basis):
    with pytest.raises(ConfigError, match=r"^dueling: got True over vectors \(5,\), expected images \(height, [^\n]*$"):
        make(alg, basis, dueling=True)
    make(alg, basis, dueling=False)


def test_without_dueling_there_is_no_state_value():
    names = [name for name, _ in make(obs_dims=IMAGE).value.named_parameters()]
    assert {name.partition(".")[0] for name in names} == {"q_conv1", "q_conv2", "q_conv3", "q_dense_act", "q_act"}


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
def test_what_are_no_indices_is_refused_in_one_line_and_nothing_has_changed(verb, alg, basis, name, wrong):
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
def test_indices_of_any_integer_type_are_taken(convert):
    agent, twin, batch = make("rrd", "dqn"), make("rrd", "dqn"), make_batch()
    agent.train(batch)
    twin.train(batch | {name: convert(batch[name]) for name in ("acts", "rrd_acts")})
    assert_unchanged(twin, parameters(agent))


# Convolutions -------------------------------------------------------------------------------------------------------

def padded_as_tensorflow(size: tuple[int, int], kernel: int, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """The same convolution by both, (1, H', W', filters)."""
    tf = pytest.importorskip("tensorflow")
    conv = SameConv2d(2, 3, kernel, stride, torch.Generator().manual_seed(kernel))
    torch.nn.init.normal_(conv.bias, generator=torch.Generator().manual_seed(stride))
    images = np.random.default_rng(0).standard_normal((1, *size, 2), np.float32)
    with torch.no_grad():
        ours = conv(torch.tensor(images).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).numpy()
        weight = conv.weight.permute(2, 3, 1, 0).numpy()
        return ours, (tf.nn.conv2d(images, weight, stride, "SAME") + conv.bias.numpy()).numpy()


@pytest.mark.parametrize("stride", [1, 2, 3, 4])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5, 8])
def test_images_of_any_size_are_padded_as_tensorflow_pads_them(kernel, stride):
    heights = [*range(1, 13), 20, 21, 33, 84]
    for height, width in zip(heights, heights[5:] + heights[:5], strict=True):
        ours, theirs = padded_as_tensorflow((height, width), kernel, stride)
        assert ours.shape == (1, -(-height // stride), -(-width // stride), 3)
        np.testing.assert_allclose(ours, theirs, 1e-5, 1e-5, err_msg=f"{height} x {width}")


def test_84_becomes_21_11_and_11():
    x, sizes = torch.zeros(1, 4, 84, 84), []
    for conv in ConvTrunk("q", (84, 84, 4)).convs:
        x = conv(x)
        sizes.append(tuple(x.shape))
    assert sizes == [(1, 32, 21, 21), (1, 64, 11, 11), (1, 64, 11, 11)]


@pytest.mark.parametrize(("size", "kernel", "stride", "before", "after"), [
    (84, 8, 4, 2, 2), (21, 4, 2, 1, 2), (11, 3, 1, 1, 1),       # the original's games
    (83, 8, 4, 2, 3), (6, 4, 2, 1, 1), (5, 4, 2, 1, 2), (3, 8, 4, 2, 3), (1, 8, 4, 3, 4), (9, 2, 4, 0, 1),
])
def test_the_odd_pixel_of_padding_comes_after_the_image(size, kernel, stride, before, after):
    """A kernel of 0, 1, ... tells which of its cells lies on the first pixel in the first window, and so at the end."""
    conv = SameConv2d(1, 1, kernel, stride)
    conv.weight.data = torch.arange(1.0, kernel**2 + 1).reshape(1, 1, kernel, kernel)
    for pixel, cell in ((0, before), (-1, kernel - 1 - after)):
        image = torch.zeros(1, 1, size, size)
        image[..., pixel, pixel] = 1
        assert float(conv(image)[0, 0, pixel, pixel].detach()) == 1 + cell * (kernel + 1)


def test_features_are_flattened_by_row_column_and_channel():
    trunk, images = ConvTrunk("q", (4, 3, 2)), torch.arange(48.0).reshape(2, 4, 3, 2)
    trunk.convs = [torch.nn.Identity()]
    assert torch.equal(trunk.trunk(images), images.reshape(2, 24))


@pytest.mark.parametrize("dims", [(1, 1, 1), (3, 5, 1), (5, 40, 3), (37, 21, 2), (84, 84, 4)], ids=str)
def test_images_of_any_size_are_learned_from_and_acted_upon(dims):
    agent = make("rrd", "dqn", obs_dims=dims)
    assert value_of(agent).features == 64 * math.ceil(dims[0] / 8) * math.ceil(dims[1] / 8)
    assert agent.decomposition.reward.features == value_of(agent).features
    assert {name: value.isfinite().item() for name, value in agent.train(make_batch(dims=dims)).items()} == {
        "Q_loss": True, "R_loss": True}
    assert agent.step(np.zeros((2, *dims), np.uint8)).shape == (2,)
    batch = make_batch(dims=dims)
    assert agent.rewards(batch["rrd_obs"], batch["rrd_acts"], batch["rrd_obs_next"]).shape == (N, K, 1)


def test_images_of_another_size_are_refused():
    agent, turned = make(obs_dims=IMAGE), (9, 12, 2)
    with pytest.raises(ValueError, match=r"^batch\['obs'\]: got shape \(8, 9, 12, 2\), expected \(B, 12, 9, 2\)"):
        agent.train(make_batch(dims=turned))
    with pytest.raises(ValueError, match=r"^obs: got shape \(9, 12, 2\), expected \(12, 9, 2\) or \(N, 12, 9, 2\)"):
        agent.step(np.zeros(turned, np.uint8))


@each_kind
def test_biases_start_at_zero_and_weights_are_xavier_uniform(dims):
    """A convolution's fans count the window: 6 / (k^2 (in + out))."""
    agent = make("rrd", "dqn", obs_dims=dims, **({} if dims == (O,) else {"dueling": True}))
    layers = [layer for layer in agent.nets.modules() if isinstance(layer, (torch.nn.Linear, torch.nn.Conv2d))]
    assert len(layers) == (9 if dims == (O,) else 19)
    for layer in layers:
        fan_out, fan_in, *window = layer.weight.shape
        bound = math.sqrt(6 / (math.prod(window) * (fan_in + fan_out)))
        assert not layer.bias.any()
        assert 0.9 * bound < float(layer.weight.detach().abs().max()) <= bound


@each_kind
def test_building_and_using_an_agent_leaves_pytorchs_own_generator_alone(dims):
    before = torch.random.get_rng_state()
    agent = make("rrd", "dqn", obs_dims=dims)
    agent.train(make_batch(dims=dims))
    agent.step(np.zeros(dims), explore=True)
    assert torch.equal(torch.random.get_rng_state(), before)


# Acting -------------------------------------------------------------------------------------------------------------

@each_kind
@each_agent
def test_step_divides_by_255_what_a_batch_holds_divided_already(alg, basis, dims):
    agent = make(alg, basis, obs_dims=dims, obs_scale=255 if dims == (O,) else None)
    g = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (64, *dims), dtype=torch.uint8, generator=g)
    for layer in value_of(agent).modules():                     # without biases the scale would choose no action
        if isinstance(layer, (torch.nn.Linear, torch.nn.Conv2d)):
            torch.nn.init.normal_(layer.bias, generator=g)
    acts, info = agent.step(pixels.numpy(), test_info=True)
    with torch.no_grad():
        q, undivided = value_of(agent)(pixels.float() / 255), value_of(agent)(pixels.float())
    torch.testing.assert_close(info["Q_average"], q.amax(1))
    assert acts.tolist() == q.argmax(1).tolist() != undivided.argmax(1).tolist()


@each_kind
def test_another_obs_scale_takes_the_place_of_the_default(dims):
    agent, obs = make(obs_scale=2.0, obs_dims=dims), make_batch(dims=dims)["obs"]
    with torch.no_grad():
        average = agent.step(2 * obs.numpy(), test_info=True)[1]["Q_average"]
        torch.testing.assert_close(average, agent.value(obs).amax(1))


@each_agent
def test_step_chooses_on_vectors_the_greatest_of_the_values_that_train_fits(alg, basis):
    agent = make(alg, basis, gamma=0.0, q_lr=3e-3)
    batches = [make_batch(seed) for seed in range(20)]
    for batch in batches:
        agent.train(batch)
    obs = torch.cat([3 * batch["obs"] for batch in batches])
    with torch.no_grad():
        fitted, shrunk = agent.nets["main"]["value"](obs), agent.nets["main"]["value"](obs / 255)
    assert agent.step(obs.numpy()).tolist() == fitted.argmax(1).tolist() != shrunk.argmax(1).tolist()


def test_a_checkpoint_of_a_run_on_vectors_loads_in_a_loop_of_ones_own():
    done = run("--alg=dqn", "--env=CartPole-v1", *SMALL)
    agent = create_agent(Namespace(alg="dqn", obs_dims=4, acts_dims=2, device="cpu"))
    agent.load_model(done.directory / "checkpoints" / "last.safetensors")
    torch.testing.assert_close(agent.state_dict(), done.tensors(), rtol=0, atol=0)


def test_pixels_in_a_batch_may_be_bytes_which_are_divided_by_255():
    agent, twin = (make("rrd", "dqn", obs_dims=IMAGE, obs_normalization=True) for _ in range(2))
    pixels = {name: (100 * value.abs()).clamp(0, 255).byte() for name, value in make_batch(dims=IMAGE).items()
              if name.endswith(("obs", "obs_next"))}
    for one, convert in ((agent, lambda x: x.numpy()), (twin, lambda x: x.float() / 255)):
        batch = make_batch(dims=IMAGE) | {name: convert(value) for name, value in pixels.items()}
        one.normalizer_update(batch)
        one.train(batch)
    assert_unchanged(twin, parameters(agent))


def test_the_normaliser_sees_observations_as_a_batch_holds_them():
    agent, batch = make(obs_normalization=True), make_batch()
    agent.normalizer_update(batch)
    _, info = agent.step(batch["obs"].numpy(), test_info=True)
    with torch.no_grad():
        expected = agent.value(agent.normalizer.normalize(batch["obs"])).amax(1)
    torch.testing.assert_close(info["Q_average"], expected, rtol=1e-4, atol=1e-6)


def test_one_observation_gives_an_int_and_several_give_an_array():
    agent, obs = make(), make_batch()["obs"].numpy()
    for explore in (False, True):
        assert type(agent.step(obs[0], explore)) is int
        acts = agent.step(obs, explore)
        assert (acts.shape, acts.dtype) == ((B,), np.int64)
    assert agent.step(obs).tolist() == [agent.step(one) for one in obs]
    assert agent.step(obs[0], test_info=True)[1]["Q_average"].shape == ()
    assert agent.step(obs, test_info=True)[1]["Q_average"].shape == (B,)


@pytest.mark.parametrize("explore", [False, True])
@pytest.mark.parametrize("test_info", [False, True])
def test_no_observations_give_no_actions(explore, test_info):
    result = make().step(np.zeros((0, O)), explore, test_info)
    assert (result[0] if test_info else result).shape == (0,)


def test_the_metrics_of_an_exploring_step_are_those_of_the_greedy_action():
    agent, obs = make(eps_l=1.0), make_batch()["obs"].numpy()
    torch.testing.assert_close(agent.step(obs, True, True)[1], agent.step(obs, False, True)[1])


def favour(agent, action: int) -> None:
    """The greedy action is always this one."""
    set_constant(value_of(agent).q, [float(i == action) for i in range(A)])


def random_share(acts: np.ndarray) -> tuple[float, float]:
    """The shares of actions 1 and 2 where 0 is the greedy one."""
    return float((acts == 1).mean()), float((acts == 2).mean())


@each_agent
def test_epsilon_is_among_the_metrics_of_exploring(alg, basis):
    agent = make(alg, basis, eps_l=0.75)
    assert agent.explore_metrics() == {"Epsilon": 0.75}
    assert agent.explore_info == ("Epsilon",)


@each_agent
def test_epsilon_falls_linearly_from_the_first_exploring_step_and_then_stays(alg, basis):
    agent = make(alg, basis, warmup=0, eps_l=0.9, eps_r=0.1, eps_decay=8)
    basis_agent, seen = getattr(agent, "basis", agent), []
    for _ in range(12):
        seen.append(basis_agent.epsilon)
        agent.step(np.zeros(O), explore=True)
    assert seen == pytest.approx([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.1, 0.1, 0.1])


def test_random_steps_of_the_warmup_count_for_epsilon_too():
    agent = make(warmup=10, eps_l=1.0, eps_r=0.0, eps_decay=20)
    for _ in range(10):
        agent.step(np.zeros(O), explore=True)
    assert agent.epsilon == pytest.approx(0.5)


def test_epsilon_may_rise_too_or_stand():
    agent = make(warmup=0, eps_l=0.0, eps_r=1.0, eps_decay=4)
    agent.step(np.zeros((2, O)), explore=True)
    assert agent.epsilon == pytest.approx(0.5)
    assert make(eps_l=0.3, eps_r=0.3).epsilon == pytest.approx(0.3)


def test_the_first_warmup_exploring_steps_are_random_whatever_epsilon():
    agent = make(warmup=300, eps_l=0.0, eps_r=0.0)
    favour(agent, 0)
    warm = np.array([agent.step(np.zeros(O), explore=True) for _ in range(300)])
    assert random_share(warm) == pytest.approx((1 / 3, 1 / 3), abs=5 * math.sqrt(2 / 9 / 300))
    assert [agent.step(np.zeros(O), explore=True) for _ in range(300)] == [0] * 300


def test_the_warmup_ends_on_time():
    """The third step may be any action, the fourth only the greedy one, whatever the seed."""
    acts = []
    for seed in range(20):
        agent = make(warmup=3, eps_l=0.0, eps_r=0.0, seed=seed)
        favour(agent, 0)
        acts.append([agent.step(np.zeros(O), explore=True) for _ in range(4)])
    *_, third, fourth = zip(*acts, strict=True)
    assert set(third) == {0, 1, 2}
    assert set(fourth) == {0}


def test_greedy_steps_do_not_count_and_draw_nothing():
    agent, obs = make(eps_l=1.0, warmup=5), np.zeros((3, O))
    drawn = agent.generator.get_state()
    for observation in (obs, obs[0]):
        agent.step(observation)
        agent.step(observation, test_info=True)
    assert agent.counters["steps"] == 0
    assert torch.equal(agent.generator.get_state(), drawn)
    agent.step(obs, explore=True)
    agent.step(obs[0], explore=True, test_info=True)
    assert agent.counters["steps"] == 4


@pytest.mark.parametrize("at_once", [1, 20, 20_000])
def test_the_share_of_random_actions_is_epsilon_and_any_action_is_as_likely(at_once):
    """0.3 of the actions are random; a third of those is the greedy one. Five standard deviations either way."""
    agent, count = make(warmup=0, eps_l=0.3, eps_r=0.3), max(4_000, at_once)
    favour(agent, 0)
    acts = np.concatenate([agent.step(np.zeros((at_once, O)), explore=True) for _ in range(count // at_once)])
    assert random_share(acts) == pytest.approx((0.1, 0.1), abs=5 * math.sqrt(0.1 * 0.9 / count))


@pytest.mark.parametrize(("epsilon", "share"), [(0.0, 0.0), (1.0, 1 / 3)])
def test_epsilon_0_is_greedy_and_1_is_random(epsilon, share):
    agent = make(warmup=0, eps_l=epsilon, eps_r=epsilon)
    favour(agent, 0)
    acts = agent.step(np.zeros((3_000, O)), explore=True)
    assert random_share(acts) == pytest.approx((share, share), abs=5 * math.sqrt(2 / 9 / 3_000) * (epsilon > 0))


def test_observations_at_once_are_explored_each_by_itself():
    agent, obs = make(warmup=0, eps_l=0.5, eps_r=0.5), np.zeros((64, O))
    favour(agent, 0)
    acts = agent.step(obs, explore=True)
    assert set(acts.tolist()) == {0, 1, 2}
    assert not np.array_equal(acts, agent.step(obs, explore=True))
    assert agent.counters["steps"] == 128


@each_agent
def test_the_same_seed_gives_the_same_actions_and_another_one_others(alg, basis):
    def actions(seed: int) -> list[int]:
        agent = make(alg, basis, seed=seed, warmup=10, eps_l=0.9, eps_r=0.1, eps_decay=50)
        return [agent.step(np.full(O, float(i)), explore=True) for i in range(60)]
    assert actions(1) == actions(1) != actions(2)


# Saving -------------------------------------------------------------------------------------------------------------

@each_agent
def test_epsilons_counter_is_saved_and_loaded(alg, basis):
    saved, loaded = (make(alg, basis, warmup=0, eps_decay=100) for _ in range(2))
    saved.step(np.zeros((30, O)), explore=True)
    saved.save_model("model")
    loaded.load_model("model")
    assert getattr(loaded, "basis", loaded).epsilon == getattr(saved, "basis", saved).epsilon == pytest.approx(0.703)


def test_a_checkpoint_from_before_exploring_steps_were_counted_still_loads():
    """Version 0.1.0 wrote such ones, of the algorithms that do not count them."""
    agent, before = make("sac"), parameters(make("sac", seed=1))
    agent.load_state_dict({name: value for name, value in before.items() if name != "steps"})
    assert_unchanged(agent, before)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda agent: pickle.loads(pickle.dumps(agent))],
                         ids=["deepcopy", "pickle"])
@each_agent
def test_an_agent_can_be_copied_and_goes_on_like_its_copy(alg, basis, duplicate):
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
def test_a_loaded_agent_goes_on_as_the_saved_one(alg, basis, dims, optimizer):
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
    """(9, 12, 2) has as many features as (12, 9, 2), and the same shapes everywhere."""
    make(**{"obs_dims": IMAGE} | changes).save_model("other")
    agent = make(obs_dims=IMAGE)
    before = parameters(agent)
    with pytest.raises(CheckpointError, match=r"^other: "):
        agent.load_model("other")
    assert_unchanged(agent, before)


def test_a_checkpoint_of_another_scale_of_observations_is_refused():
    """A policy that acts on the 255th part of vectors would see 255 times as much."""
    make(obs_scale=255).save_model("model")
    with pytest.raises(CheckpointError, match=r"^model: obs_scale: got '255.0', expected '1.0'"):
        make().load_model("model")


# Loops --------------------------------------------------------------------------------------------------------------

@each_agent
def test_update_takes_one_batch_a_call_and_there_is_never_a_policys_turn(alg, basis):
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
def test_training_a_policy_that_is_not_there_is_refused_in_one_line(alg, basis):
    agent = make(alg, basis)
    before = parameters(agent)
    with pytest.raises(NotImplementedError, match="no policy") as caught:
        agent.train_pi(make_batch())
    assert "\n" not in str(caught.value)
    assert_unchanged(agent, before)


def test_dqn_learns_which_action_pays():
    """The reward is 1 where the action is the place of the observation's only 1."""
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
    """Episodes of K steps, told only their mean reward; the reward is 1 for action 2."""
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


# Return decomposition over DQN --------------------------------------------------------------------------------------

def test_ircr_over_dqn_is_dqn():
    agent = make("ircr", "dqn")
    assert type(agent.basis) is DQN
    assert_unchanged(agent, parameters(make()))


@each_kind
def test_the_q_network_learns_from_the_predicted_reward_held_constant(dims):
    agent, twin, batch = make("rrd", "dqn", obs_dims=dims), make(obs_dims=dims), make_batch(dims=dims)
    rews = agent.rewards(batch["obs"], batch["acts"], batch["obs_next"])
    loss, info = agent.losses(agent.checked(batch, agent.q_spec()), policy=False)
    gradients = torch.autograd.grad(loss - info["R_loss"], list(agent.decomposition.reward.parameters()))
    assert not any(gradient.any() for gradient in gradients)
    agent.train({name: value for name, value in batch.items() if name != "rews"})
    plain = twin.train(batch | {"rews": rews})
    assert float(info["Q_loss"].detach()) == pytest.approx(float(plain["Q_loss"]), rel=1e-5)
    torch.testing.assert_close(value_of(agent).state_dict(), value_of(twin).state_dict(), rtol=0, atol=1e-7)


def test_the_reward_of_images_is_that_of_the_action_and_others_have_no_part_in_it():
    agent, batch = make("rrd", "dqn", obs_dims=IMAGE), make_batch(dims=IMAGE)
    batch |= {"acts": torch.full((B,), 1), "rrd_acts": torch.full((N, K), 1)}

    def reward():
        return agent.rewards(batch["obs"], batch["acts"], batch["obs_next"])
    before = reward()
    for action, shift in ((0, 5.0), (2, -7.0)):
        agent.decomposition.reward.r_act.weight.data[action] += shift
        agent.decomposition.reward.r_act.bias.data[action] += shift
    torch.testing.assert_close(reward(), before, rtol=0, atol=0)
    agent.decomposition.reward.r_act.bias.data[1] += 3.0
    torch.testing.assert_close(reward(), before + 3.0)
    agent.train(batch)
    last = agent.decomposition.reward.r_act
    for gradient in (last.weight.grad, last.bias.grad[:, None]):
        assert gradient.any(1).tolist() == [False, True, False]


def test_the_reward_of_images_is_the_networks_output_at_the_action():
    agent, batch = make("rrd", "dqn", obs_dims=IMAGE), make_batch(dims=IMAGE)
    net, obs, obs_next = agent.decomposition.reward, batch["rrd_obs"].flatten(0, 1), batch["rrd_obs_next"].flatten(0, 1)
    with torch.no_grad():
        outputs = net.r_act(net.r_dense_act(net.trunk(torch.cat([obs, obs - obs_next], -1))).relu())
    expected = outputs[torch.arange(N * K), batch["rrd_acts"].flatten()].reshape(N, K, 1)
    pred = agent.rewards(batch["rrd_obs"], batch["rrd_acts"], batch["rrd_obs_next"])
    torch.testing.assert_close(pred, expected)


def test_the_reward_of_vectors_takes_the_one_hot_action_as_an_input():
    agent, batch = make("rrd", "dqn"), make_batch()
    obs, obs_next = batch["obs"], batch["obs_next"]
    with torch.no_grad():
        expected = agent.decomposition.reward(obs, torch.eye(A)[batch["acts"]], obs_next)
    torch.testing.assert_close(agent.rewards(obs, batch["acts"], obs_next), expected)


@each_kind
def test_bias_correction_subtracts_the_variance_of_a_mean(dims):
    agent, batch = make("rrd", "dqn", obs_dims=dims, rrd_bias_correction=True), make_batch(dims=dims)
    batch["rrd_var_coef"] = torch.tensor([[1.0], [0.5], [0.0]])
    pred = agent.rewards(batch["rrd_obs"], batch["rrd_acts"], batch["rrd_obs_next"]).double().numpy()[..., 0]
    r_loss = np.mean((pred.mean(1) - batch["rrd_rews"].numpy()[:, 0]) ** 2)
    r_var = np.mean([1.0, 0.5, 0.0] * pred.var(1, ddof=1) / K)
    loss, info = agent.decomposition.loss(agent.checked(batch, agent.q_spec()))
    assert float(info["R_loss"].detach()) == pytest.approx(r_loss, rel=1e-5)
    assert float(info["R_var"].detach()) == pytest.approx(r_var, rel=1e-5)
    assert float(loss.detach()) == pytest.approx(r_loss - r_var, rel=1e-5)
    assert set(agent.train(batch)) == {"Q_loss", "R_loss", "R_var"} == set(agent.train_info)


@each_kind
def test_rewards_are_predicted_for_any_leading_dimensions(dims):
    agent, batch = make("rrd", "dqn", obs_dims=dims), make_batch(dims=dims)
    obs, acts, obs_next = batch["rrd_obs"], batch["rrd_acts"], batch["rrd_obs_next"]
    whole = agent.rewards(obs, acts, obs_next)
    assert whole.shape == (N, K, 1)
    for parts in ((obs[0], acts[0], obs_next[0]), (obs[0].numpy(), acts[0].tolist(), obs_next[0].numpy())):
        torch.testing.assert_close(agent.rewards(*parts), whole[0])
    single = agent.rewards(obs[0, 0], acts[0, 0], obs_next[0, 0])
    assert single.shape == (1,)
    torch.testing.assert_close(single, whole[0, 0])


def test_rewards_are_predicted_of_pixels_as_a_batch_holds_them():
    agent, batch = make("rrd", "dqn", obs_dims=IMAGE), make_batch(dims=IMAGE)
    obs, obs_next = ((100 * batch[name].abs()).clamp(0, 255).byte() for name in ("obs", "obs_next"))
    expected = agent.rewards(obs / 255, batch["acts"], obs_next / 255)
    torch.testing.assert_close(agent.rewards(obs.numpy(), batch["acts"], obs_next), expected)


@pytest.mark.parametrize(("name", "spoil"), [
    ("obs", lambda x: x[..., :-1]), ("obs_next", lambda x: x[..., :-1]), ("obs_next", lambda x: x[:-1]),
    ("obs", lambda x: x.long()), ("acts", lambda x: x[:-1]), ("acts", lambda x: x[:, None]),
    ("acts", lambda x: torch.eye(A)[x]), ("acts", lambda x: x.float()), ("acts", lambda x: x > 0),
    ("acts", lambda x: torch.full_like(x, A)), ("acts", lambda x: torch.full_like(x, -1)),
], ids=["narrow obs", "narrow obs_next", "short obs_next", "integer obs", "short acts", "column of acts",
        "one-hot acts", "float acts", "boolean acts", "acts too large", "negative acts"])
def test_rewards_of_what_does_not_fit_are_refused_in_one_line(name, spoil):
    agent, batch = make("rrd", "dqn"), make_batch()
    steps = {field: spoil(batch[field]) if field == name else batch[field] for field in ("obs", "acts", "obs_next")}
    with pytest.raises(ValueError, match=f"^{name}: got .*, expected ") as caught:
        agent.rewards(**steps)
    assert "\n" not in str(caught.value)


# Settings -----------------------------------------------------------------------------------------------------------

COMMON = {"batch_size": 32, "train_batches": 25, "train_target": 8000, "eps_l": 1.0, "eps_r": 0.01,
          "eps_decay": 250_000, "double": False, "dueling": False, "obs_normalization": False, "buffer_size": 1_000_000}
ADAM = {"optimizer": "adam", "q_lr": 0.625e-4, "Adam_eps": 1.5e-4, "RMSProp_decay": None, "RMSProp_eps": None}
RMSPROP = {"optimizer": "rmsprop", "q_lr": 2.5e-4, "Adam_eps": None, "RMSProp_decay": 0.95, "RMSProp_eps": 1e-2}
OVER_IT = {"dqn": {"basis_alg": None, "r_lr": None}, "ircr": {"basis_alg": "dqn", "r_lr": None, "polyak": None},
           "rrd": {"basis_alg": "dqn", "r_lr": 3e-4, "rrd_batch_size": 32, "rrd_sample_size": 32,
                   "rrd_bias_correction": False}}


@pytest.mark.parametrize(("optimizer", "expected"), [(None, ADAM), ("adam", ADAM), ("rmsprop", RMSPROP)])
@each_agent
def test_defaults_are_the_originals_by_optimiser_too(alg, basis, optimizer, expected):
    expected = COMMON | expected | OVER_IT[alg]
    resolved = resolve({"alg": alg, "basis_alg": basis, "optimizer": optimizer})
    built = make(alg, basis, optimizer=optimizer).config
    for config in (resolved, built):
        assert {name: getattr(config, name) for name in expected} == expected


@pytest.mark.parametrize(("optimizer", "name"), [("adam", "RMSProp_eps"), (None, "RMSProp_decay"),
                                                 ("rmsprop", "Adam_eps")])
@each_agent
def test_the_other_optimisers_settings_are_refused_on_the_command_line_and_not_read_from_an_object(
        alg, basis, optimizer, name):
    with pytest.raises(ConfigError, match=f"^{name}: not a setting of .*belongs to dqn with --optimizer="):
        resolve({"alg": alg, "basis_alg": basis, "optimizer": optimizer, name: 0.5})
    agent = make(alg, basis, optimizer=optimizer, **{name: "junk"})
    assert agent.config == make(alg, basis, optimizer=optimizer).config


@pytest.mark.parametrize("given", [{"q_lr": 0.5}, {"optimizer": "rmsprop", "RMSProp_decay": 0.5},
                                   {"Adam_eps": 0.5}, {"eps_decay": 7, "double": True}], ids=str)
def test_a_given_setting_wins_over_its_default(given):
    config = make(**given).config
    assert {name: getattr(config, name) for name in given} == given


@pytest.mark.parametrize("alg", ["rrd", "ircr"])
def test_settings_of_the_optimiser_are_read_where_dqn_is_the_basis_by_default(alg):
    """As it is for games."""
    given = {"optimizer": "rmsprop", "RMSProp_eps": 0.5, "RMSProp_decay": 0.25}
    config = make(alg, env="Assault", obs_dims=IMAGE, **given).config
    assert config.basis_alg == "dqn"
    assert {name: getattr(config, name) for name in given} == given


@pytest.mark.parametrize("wrong", [{"optimizer": "sgd"}, {"optimizer": 3}, {"eps_l": 1.5}, {"eps_r": -0.1},
                                   {"eps_decay": 0}, {"double": "maybe"}, {"Adam_eps": 0}, {"q_lr": 0}], ids=str)
@each_agent
def test_a_wrong_setting_is_named(alg, basis, wrong):
    with pytest.raises(ConfigError, match=f"^{next(iter(wrong))}: got .*expected"):
        make(alg, basis, **wrong)


@pytest.mark.parametrize("left_over", [{}, {"basis_alg": "dqn"}, {"env": "dqn"}], ids=str)
@pytest.mark.parametrize("alg", ["sac", "td3", "ddpg"])
def test_an_optimizer_attribute_of_ones_own_is_no_matter_of_other_algorithms(alg, left_over):
    agent = create_agent(Namespace(alg=alg, obs_dims=O, acts_dims=A, device="cpu", optimizer=object(), **left_over))
    assert agent.config.optimizer is None


@pytest.mark.parametrize(("alg", "basis"), [("sac", None), ("td3", None), ("ddpg", None), ("rrd", "sac"),
                                            ("ircr", "td3"), ("sac", "dqn")])
def test_images_are_refused_where_no_network_takes_them(alg, basis):
    with pytest.raises(ConfigError, match=r"^obs_dims: got \(84, 84, 4\), expected the width of a vector") as caught:
        make(alg, basis, obs_dims=(84, 84, 4))
    assert "image" not in str(caught.value)


@pytest.mark.parametrize("dims", [(84, 84), (84, 84, 0), (84, 84, 4, 1), (84.0, 84, 4), (True, 84, 4)], ids=str)
@each_agent
def test_what_is_neither_a_vectors_width_nor_an_images_sizes_is_refused(alg, basis, dims):
    with pytest.raises(ConfigError, match=r"^obs_dims: got .*expected the width .*\(height, width, channels\)"):
        make(alg, basis, obs_dims=dims)


# Optimisers ---------------------------------------------------------------------------------------------------------

def gradients_of_all_sizes(count: int, seed: int = 0) -> np.ndarray:
    """Far below the epsilons, around them, and far above, with a zero among them."""
    scales = np.array([1e-6, 1e-4, 1e-2, 1.0, 100.0, 0.0])
    return (np.random.default_rng(seed).standard_normal((count, 6)) * scales).astype(np.float32)


def descend(optimizer, parameter, gradients) -> np.ndarray:
    for gradient in gradients:
        parameter.grad = torch.tensor(gradient)
        optimizer.step()
    return parameter.detach().numpy()


@pytest.mark.parametrize(("decay", "eps"), [(0.95, 1e-2), (0.9, 1e-10), (0.0, 1e-2)])
def test_rmsprop_starts_its_mean_square_at_1_and_has_epsilon_inside_the_root(decay, eps):
    parameter, gradients = torch.nn.Parameter(torch.zeros(6)), gradients_of_all_sizes(30)
    optimizer = TFRMSProp([dict(name="x", params=[parameter], lr=2.5e-4)], decay, eps)
    x, mean_square = np.zeros(6), np.ones(6)
    for gradient in gradients.astype(np.float64):
        mean_square = decay * mean_square + (1 - decay) * gradient**2
        x -= 2.5e-4 * gradient / np.sqrt(mean_square + eps)
    np.testing.assert_allclose(descend(optimizer, parameter, gradients), x, rtol=1e-4, atol=1e-12)
    np.testing.assert_allclose(optimizer.state[parameter]["square_avg"], mean_square, rtol=1e-4)


def test_rmsprops_first_step_by_hand():
    """g = 2: the mean square is 0.95 + 0.05 * 4 = 1.15, the step 0.1 * 2 / sqrt(1.15 + 0.01)."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    moved = descend(TFRMSProp([dict(name="x", params=[parameter], lr=0.1)], 0.95, 1e-2), parameter, [np.float32([2])])
    assert float(moved[0]) == pytest.approx(-0.1856953, rel=1e-6)


def test_adam_with_dqns_epsilon_adds_it_before_the_bias_correction():
    parameter, gradients = torch.nn.Parameter(torch.zeros(6)), gradients_of_all_sizes(30)
    optimizer = TFAdam([dict(name="x", params=[parameter], lr=0.625e-4, eps=1.5e-4)])
    x, m, v = np.zeros(6), np.zeros(6), np.zeros(6)
    for t, gradient in enumerate(gradients.astype(np.float64), start=1):
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        x -= 0.625e-4 * math.sqrt(1 - 0.999**t) / (1 - 0.9**t) * m / (np.sqrt(v) + 1.5e-4)
    np.testing.assert_allclose(descend(optimizer, parameter, gradients), x, rtol=1e-4, atol=1e-12)


def test_adams_first_step_by_hand():
    """g = 1e-2: m = 1e-3, sqrt(v) = 1e-2 sqrt(0.001) = 3.1623e-4, so epsilon takes a third of the step away."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = TFAdam([dict(name="x", params=[parameter], lr=1.0, eps=1.5e-4)])
    moved = descend(optimizer, parameter, [np.float32([1e-2])])
    assert float(moved[0]) == pytest.approx(-math.sqrt(0.001) / 0.1 * 1e-3 / (3.16227766e-4 + 1.5e-4), rel=1e-5)
    assert float(moved[0]) == pytest.approx(-0.67826, rel=1e-4)


def test_rmsprop_leaves_a_group_without_gradients_alone():
    first, second = (torch.nn.Parameter(torch.ones(1)) for _ in range(2))
    optimizer = TFRMSProp([dict(name=name, params=[x], lr=0.1) for name, x in (("a", first), ("b", second))], 0.5, 1e-2)
    descend(optimizer, first, [np.ones(1, np.float32)])
    assert float(second.detach()) == float(optimizer.state[second]["square_avg"]) == 1.0
    assert [group["t"] for group in optimizer.param_groups] == [1, 0]


def first_step(gradient: np.ndarray, optimizer: str, lr: float, eps: float) -> np.ndarray:
    if optimizer == "rmsprop":
        return lr * gradient / np.sqrt(0.95 + 0.05 * gradient**2 + eps)
    return lr * math.sqrt(0.001) / 0.1 * 0.1 * gradient / (math.sqrt(0.001) * np.abs(gradient) + eps)


@pytest.mark.parametrize(("optimizer", "lr", "eps"), [("adam", 0.625e-4, 1.5e-4), ("rmsprop", 2.5e-4, 1e-2)])
@each_kind
def test_the_chosen_optimiser_moves_the_q_network_and_adam_the_reward_network(dims, optimizer, lr, eps):
    agent = make("rrd", "dqn", obs_dims=dims, optimizer=optimizer)
    assert [type(opt) for opt in agent.opts] == [TFRMSProp if optimizer == "rmsprop" else TFAdam, TFAdam]
    before = parameters(agent)
    agent.train(make_batch(dims=dims))
    for scope, how in (("main.value", (optimizer, lr, eps)), ("rrd", ("adam", 3e-4, 1e-8))):
        found = [(name, value) for name, value in agent.nets.named_parameters() if name.startswith(scope)]
        assert len(found) == (6 if dims == (O,) else 10)
        for name, value in found:
            moved = (before[f"nets.{name}"] - value.detach()).double().numpy()
            expected = first_step(value.grad.double().numpy(), *how)
            np.testing.assert_allclose(moved, expected, rtol=1e-3, atol=2e-8, err_msg=name)


def test_every_trained_parameter_is_in_exactly_one_optimiser():
    for alg, basis in OVER:
        for optimizer in ("adam", "rmsprop"):
            agent = make(alg, basis, optimizer=optimizer)
            trained = [parameter for _, group in agent.groups() for parameter in group["params"]]
            wanted = [value for name, value in agent.nets.named_parameters() if not name.startswith("target.")]
            assert len(trained) == len({id(x) for x in trained}) == len(wanted)
            assert {id(x) for x in trained} == {id(x) for x in wanted}
