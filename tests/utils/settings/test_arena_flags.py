"""The command line of the published Arena program: the settings of its table, and the sizes of its networks."""

from __future__ import annotations

import pytest

from algorithm import create_agent
from utils.errors import ConfigError
from utils.settings.arena_flags import ALGOS
from utils.settings.cli import parse_args
from utils.settings.sizes import with_sizes

PUBLISHED = ["--algo", "ppo_torch", "--style", "2", "--total-timesteps", "1000000", "--device", "cpu"]
# Parameters of the networks of style 2, of the program and of Stable-Baselines3.
PARAMETERS = {"ppo_torch": 58_311, "ppo": 99_655, "ppo_dict": 99_655, "ppo_lstm": 215_879, "a2c": 284_743}


@pytest.mark.parametrize("algo", ALGOS)
def test_the_networks_have_the_published_sizes(algo):
    config = parse_args(["--algo", algo, "--style", "2", "--device=cpu"])
    sized = with_sizes(config, 32, 6, acts_discrete=True if config.on_policy else None)
    if algo in PARAMETERS:
        assert sum(one.numel() for one in create_agent(sized).policy.parameters()) == PARAMETERS[algo]
    else:
        assert [len(layer.weight) for layer in create_agent(sized).value.layers] == [256, 128, 64, 6]


def test_a_rollout_has_as_many_games_as_this_process_may_use_cores(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 5, 6}, raising=False)
    monkeypatch.setattr("utils.cores.quotas", lambda: [2.0])
    assert parse_args(PUBLISHED).num_envs == 2


def test_style_1_has_one_output_less():
    config = parse_args(["--algo=ppo_torch", "--style=1", "--device=cpu"])
    agent = create_agent(with_sizes(config, 32, 5, acts_discrete=True))
    assert sum(one.numel() for one in agent.policy.parameters()) == 58_246


def test_the_published_command_names_the_settings_of_the_table():
    config = parse_args(PUBLISHED)
    assert (config.alg, config.env, config.env_kwargs) == ("ppo", "Arena-v0", {"style": 2})
    assert (config.env_type, config.test_timesteps, config.total_timesteps) == ("normal", 3000, 1_000_000)
    assert (config.learning_rate, config.rollout_steps, config.batch_size, config.n_epochs) == (1e-4, 4096, 64, 10)
    assert (config.gamma, config.gae_lambda, config.clip_coef, config.ent_coef) == (0.99, 0.95, 0.1, 0.05)
    assert (config.max_grad_norm, config.target_kl, config.kl_stop) == (0.5, 0.03, "epoch")
    assert config.vf_coef == 0.5                        # of the squared error, of which the program takes half, times 1
    assert (config.obs_clip, config.obs_eps, config.normalize_rewards) == (10, 1e-8, True)
    assert config.curriculum == "default"
    assert (config.actor_gain, config.critic_gain) == (2 ** 0.5, 2 ** 0.5)      # Stable-Baselines3's, of ppo, are ours


@pytest.mark.parametrize(("words", "name", "value"), [
    (["--steps", "77"], "total_timesteps", 77), (["--total_timesteps=78"], "total_timesteps", 78),
    (["--lr=0.5"], "learning_rate", 0.5), (["--batch", "32"], "batch_size", 32),
    (["--device=cuda"], "batch_size", 256), (["--device=cuda", "--batch=128"], "batch_size", 128),
    (["--no-render", "--tensorboard", "--reset-timesteps"], "batch_size", 64), (["--num_envs=3"], "num_envs", 3),
    (["--load-model", "m.pt"], "load_model", "m.pt"), (["--gamma=0.9", "--seed=4"], "gamma", 0.9),
    (["--style", "1"], "env_kwargs", {"style": 1}), (["--algo=ppo_dict"], "env_kwargs", {"style": 2,
                                                                                       "observation": "dict"}),
    (["--algo=dqn", "--lr=0.5"], "q_lr", 0.5), (["--algo=dqn", "--steps=1000"], "eps_decay", 500),
    (["--algo=dqn", "--device=cuda"], "train_batches", 2), (["--algo=a2c"], "rollout_steps", 128),
    (["--algo=ppo_lstm"], "policy", "recurrent"),
], ids=lambda value: "_".join(value) if isinstance(value, list) else None)
def test_words_and_flags_win_over_the_table(words, name, value):
    assert getattr(parse_args(PUBLISHED + words), name) == value


def test_a_line_without_these_words_is_as_before():
    assert parse_args(["--alg=ppo", "--env=Arena-v0", "--total-timesteps=5"]).learning_rate == 3e-4
    with pytest.raises(ConfigError, match="lr: unknown flag"):
        parse_args(["--lr=3"])
    with pytest.raises(ConfigError, match="batch: unknown flag"):
        parse_args(["--batch=3"])


@pytest.mark.parametrize(("argv", "message"), [
    (["--algo=sac"], "algo: got .sac..*, expected one of ppo, ppo_dict, .* --alg names an algorithm of this package"),
    (["--algo=ppo_torhc"], r"algo: got 'ppo_torhc'; did you mean ppo_torch\?"),
    (["--style=3"], "style: got '3', expected 1 or 2"), (["--algo=dqn", "--steps=x"], "steps: got 'x', expected an"),
    (["--algo=ppo", "--steps=x"], "total_timesteps: got 'x', expected an integer"),
    (["--algo"], "--algo: expected one"),
    (["--algo=a2c", "--n_epochs=0"], "n_epochs: got 0"), (["--algo=ppo", "--nonsense=1"], "--nonsense: unknown flag"),
], ids=["unknown", "near", "style", "half-of-steps", "steps", "no-value", "ours", "flag"])
def test_wrong_words_are_one_line(argv, message):
    with pytest.raises(ConfigError, match=message):
        parse_args(argv)
