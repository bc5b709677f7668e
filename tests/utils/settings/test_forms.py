"""Files in the form of the published trainer: what each key means, and what is wrong in one line."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path

import pytest

from utils.errors import ConfigError
from utils.settings.algorithms import ALGORITHMS
from utils.settings.cli import parse_args
from utils.settings.forms import KNOWN, is_published
from utils.settings.json_files import read_json

ROOT = Path(__file__).resolve().parent.parent.parent.parent
NETWORK = {"type": "mlp", "hidden_sizes": [32, 16], "activation": "tanh"}
TUTORIAL = {
    "runtime": {"exp_name": "mine", "seed": 5, "cuda": False, "headless": True, "iterations": 30, "rollout_steps": 50,
                "eval_freq": 1000, "save_freq": 4000, "use_wandb": False, "wandb_project_name": "p"},
    "env": {"id": "PushCubeRL", "cfg": {"num_envs": 4, "obs_mode": "state", "episode_length": 60}},
    "policy": {"name": "actor_critic", "cfg": {}, "actor": NETWORK, "critic": NETWORK | {"hidden_sizes": [8]}},
    "algorithm": {"name": "ppo", "cfg": {"learning_rate": 1e-4, "batch_size": 64, "gamma": 0.9, "n_epochs": 3}}}
CODE = {
    "trainer": {"exp_name": "mine", "gym_config": "some/where/gym_config.json", "seed": 5, "device": "cpu",
                "headless": True, "iterations": 30, "rollout_steps": 50, "eval_freq": 1000, "save_freq": 4000,
                "use_wandb": False, "events": {"eval": {"record_camera": {"func": "f", "mode": "interval"}}}},
    "policy": {"name": "actor_critic", "actor": {"type": "mlp", "network_cfg": {"hidden_sizes": [32, 16],
                                                                                "activation": "tanh"}},
               "critic": {"type": "mlp", "network_cfg": {"hidden_sizes": [8], "activation": "tanh"}}},
    "algorithm": TUTORIAL["algorithm"]}
GYM = {"id": "PushCubeRL", "max_episodes": 5, "env": {
    "num_envs": 4, "events": {"a": {}}, "observations": {"b": {}},
    "extensions": {"obs_mode": "state", "episode_length": 60}}, "robot": {"uid": "r"},
    "rigid_object": [{"uid": "cube"}], "sensor": [], "light": {}, "background": []}


def written(data: dict, name: str = "train_config.json") -> str:
    Path(name).write_text(json.dumps(data))
    return name


def parsed(data: dict, *flags: str):
    written(GYM, "gym_config.json")
    return parse_args([f"--config={written(data)}", *flags])


def changed(data: dict, place: str, value) -> dict:
    """A copy with one value set; a value of None removes the key."""
    data = copy.deepcopy(data)
    *blocks, key = place.split(".")
    block = data
    for name in blocks:
        block = block.setdefault(name, {})
    block.pop(key, None)
    if value is not None:
        block[key] = value
    return data


def test_a_file_of_the_tutorials_form():
    config = parsed(TUTORIAL)
    assert (config.tag, config.seed, config.device, config.alg, config.policy) == ("mine", 5, "cpu", "ppo",
                                                                                   "actor_critic")
    assert (config.env, config.num_envs, config.env_type) == ("PushCubeRL", 4, "normal")
    assert config.env_kwargs == {"obs_mode": "state", "episode_length": 60}
    assert (config.rollout_steps, config.total_timesteps, config.run_length) == (50, 6000, 6000)
    assert (config.iterations, config.checkpoint_every, config.test_rollouts) == (5, 4, 5)      # rollouts; cycles
    assert (config.hidden_sizes, config.critic_hidden_sizes) == ((32, 16), (8,))
    assert (config.activation, config.critic_activation, config.orthogonal) == ("tanh", "tanh", False)
    assert (config.learning_rate, config.batch_size, config.gamma, config.n_epochs) == (1e-4, 64, 0.9, 3)
    assert (config.ent_coef, config.gae_lambda, config.clip_coef, config.vf_coef) == (0.01, 0.95, 0.2, 0.5)
    assert (config.Adam_eps, config.normalize_advantages, config.track) == (1e-8, "rollout", False)
    assert config.notes == ("note: not used here: runtime.headless, runtime.wandb_project_name",)


def test_the_form_that_its_code_reads_is_the_same_run():
    config = parsed(CODE)
    assert config == parsed(TUTORIAL)
    assert config.notes == ("note: not used here: env.cfg.events, env.cfg.max_episodes, env.cfg.observations, "
                            "env.cfg.rigid_object, env.cfg.robot, runtime.events, runtime.headless",)


def test_ours_repeats_the_run():
    config = parsed(TUTORIAL)
    written(config.settings(), "config.json")
    assert parse_args(["--config=config.json"]) == config


def test_defaults_are_the_trainers():
    config = parsed({"env": {"id": "PushCubeRL"}, "policy": {"actor": {"hidden_sizes": [4]}}, "algorithm": {"cfg": {}}})
    assert (config.alg, config.tag, config.seed, config.num_envs, config.device) == ("ppo", "generic_exp", 1, 1, "cpu")
    assert (config.rollout_steps, config.run_length) == (2048, 250 * 2048)
    assert (config.iterations, config.checkpoint_every) == (5, 5)                   # 10 000 and 50 000 steps
    assert (config.activation, config.learning_rate, config.batch_size) == ("elu", 3e-4, 64)


@pytest.mark.parametrize(("place", "value", "found"), [
    ("runtime.eval_freq", 2, {"iterations": 1, "checkpoint_every": 20}), ("runtime.eval_freq", 0, {"test_rollouts": 0}),
    ("runtime.save_freq", 0, {"checkpoint_every": 0}), ("runtime.enable_eval", False, {"test_rollouts": 0}),
    ("runtime.num_eval_episodes", 7, {"test_rollouts": 7}),
    ("runtime.num_envs", 2, {"num_envs": 2, "run_length": 3000}),
    ("runtime.total_timesteps", 900, {"run_length": 900}), ("runtime.cuda", True, {"device": "cuda"}),
    ("runtime.use_wandb", True, {"track": True}), ("runtime.best_eval_metric", "eval/success_rate",
                                                   {"best": "eval/metrics/success"}),
    ("runtime.best_eval_metric", "eval/metrics/distance", {"best": "eval/metrics/distance"}),
    ("runtime.best_eval_mode", "min", {"best": "-Rewards"}), ("policy.initial_log_std", -1, {"log_std_init": -1.0}),
    ("policy.actor.last_activation", "tanh", {"last_activation": "tanh"}), ("policy.actor.activation", "swish",
                                                                            {"activation": "silu"}),
    ("policy.actor.orthogonal_init", [1.414, 1.414, 0.02], {"orthogonal": True, "actor_gain": 0.02}),
    ("policy.actor.orthogonal_init", 1.414, {"orthogonal": True, "actor_gain": 1.414}),
    ("algorithm.name", "PPO", {"alg": "ppo"}),
    ("algorithm.cfg.optimizer", {"name": "adam", "learning_rate": 2e-4, "kwargs": {"eps": 1e-7}},
     {"learning_rate": 2e-4, "Adam_eps": 1e-7}),
    ("algorithm.cfg.optimizer", {"name": "rmsprop", "kwargs": {"alpha": 0.9}}, {"optimizer": "rmsprop",
                                                                               "RMSProp_decay": 0.9}),
    ("algorithm.cfg.lr_scheduler", {"name": "linear", "kwargs": {"end_factor": 0.4}}, {"lr_schedule": "linear",
                                                                                      "lr_end": 0.4}),
    ("algorithm.cfg.lr_scheduler", {"name": "cosine", "kwargs": {"eta_min": 1e-5}}, {"lr_schedule": "cosine",
                                                                                    "lr_end": 0.1}),
    ("algorithm.cfg.lr_scheduler", {"name": "exponential", "kwargs": {"gamma": 0.9}}, {"lr_end": 0.9**30}),
    ("algorithm.cfg.batch_size", 10**6, {"batch_size": 200}),
    ("algorithm.cfg.vf_clip_coef", 0.3, {"vf_clip_coef": 0.3}),
    ("env.cfg.max_episode_steps", 40, {"test_timesteps": 40})])
def test_what_a_key_means(place, value, found):
    config = parsed(changed(TUTORIAL, place, value), *(["--device=cpu"] if place != "runtime.cuda" else []))
    assert {name: getattr(config, name) for name in found} == pytest.approx(found)


def test_a_light_task_of_the_later_form():
    data = changed(changed(CODE, "trainer.gym_config", None), "trainer.learning_env",
                   {"name": "PointMassRL", "cfg": {"success_bonus": 5, "max_episode_steps": 80}})
    config = parsed(changed(data, "trainer.buffer_size", None))
    assert (config.env, config.env_kwargs, config.test_timesteps) == ("PointMassRL", {"success_bonus": 5}, 80)
    assert parsed(changed(changed(data, "trainer.rollout_steps", None), "trainer.buffer_size", 50)) == config


GRPO = {"name": "grpo", "cfg": {"group_size": 4, "kl_coef": 0.02, "batch_size": 20, "eps": 1e-8,
                                "truncate_at_first_done": True}}


def test_a_file_of_grpo_which_has_no_critic():
    data = TUTORIAL | {"policy": {"name": "actor_only", "actor": NETWORK}, "algorithm": GRPO}
    config = parsed(data)
    assert (config.alg, config.policy, config.hidden_sizes) == ("grpo", "actor_only", (32, 16))
    assert (config.group_size, config.kl_coef, config.ent_coef, config.Adam_eps) == (4, 0.02, 0.01, 1e-8)
    with pytest.raises(ConfigError, match=r"^algorithm\.cfg\.eps: got 0\.1, expected 1e-08, the only one here"):
        parsed(changed(data, "algorithm.cfg.eps", 0.1))


def test_flags_win_and_a_decomposition_may_stand_over_it():
    config = parsed(TUTORIAL, "--num_envs=2", "--alg=rrd", "--basis_alg=ppo", "--env_type=ep_rews", "--gamma=0.5")
    assert (config.num_envs, config.alg, config.basis_alg) == (2, "rrd", "ppo")
    assert (config.env_type, config.gamma) == ("ep_rews", 0.5)


def test_gains_of_hidden_layers_that_differ_are_a_note():
    config = parsed(changed(TUTORIAL, "policy.critic.orthogonal_init", [1.2, 1.414, 0.5]))
    assert config.notes[-1] == ("note: policy.critic.orthogonal_init: got gains [1.2, 1.414, 0.5], here 1.414 for "
                                "hidden layers")
    assert config.critic_gain == 0.5


@pytest.mark.parametrize(("place", "value", "message"), [
    ("runtime.exp_nam", "x", "runtime.exp_nam: unknown key; did you mean exp_name?"),
    ("runtimes", {}, "runtimes: unknown key"),
    ("policy.actor.network_cfg.hidden_size", [1], "policy.actor.network_cfg.hidden_size: unknown key; did you mean "
                                                  "hidden_sizes?"),
    ("algorithm.cfg.gama", 1, "algorithm.cfg.gama: unknown setting; did you mean gamma?"),
    ("algorithm.cfg.total_timesteps", 1, "algorithm.cfg.total_timesteps: unknown setting"),
    ("algorithm.gamma", 1, "algorithm.gamma: a key of this program's own form, in a file of the trainer's form"),
    ("alg", "ppo", "alg: a key of this program's own form"), ("gamma", 1, "gamma: a key of this program's own form"),
    ("policy.hidden_sizes", [1], "policy.hidden_sizes: a key of this program's own form"),
    ("trainer.seed", 1, "trainer.seed: got 2 values in the file, expected one"),
    ("policy.actor.network_cfg", {"hidden_sizes": [1]}, "policy.actor.network_cfg.hidden_sizes: got 2 values"),
    ("runtime.device", "cpu", "runtime.cuda: got 2 values, with device"),
    ("runtime", 3, "runtime: got 3, expected an object"),
    ("runtime.cuda", "yes", "runtime.cuda: got 'yes', expected true or false"),
    ("runtime.iterations", 0, "iterations: got 0, expected an integer at least 1"),
    ("runtime.eval_freq", -1, "eval_freq: got -1, expected an integer at least 0"),
    ("runtime.best_eval_metric", "reward", "runtime.best_eval_metric: got 'reward' with mode 'max', expected eval/"),
    ("policy.actor.type", "cnn", "policy.actor.type: got 'cnn', expected mlp"),
    ("policy.actor.activation", "rely", "policy.actor.activation: got 'rely', expected one of relu"),
    ("policy.actor.use_layernorm", True, "policy.actor.use_layernorm: got True, expected none"),
    ("policy.actor.orthogonal_init", "yes", "policy.actor.orthogonal_init: got 'yes', expected a gain"),
    ("policy.name", "vlla", "policy: got 'vlla'"),
    ("algorithm.name", "pppo", "alg: got 'pppo'; did you mean ppo"),
    ("algorithm.cfg.optimizer", {"name": "lion"}, "algorithm.cfg.optimizer: got 'lion' with no kwargs, expected adam"),
    ("algorithm.cfg.optimizer", "adam", "algorithm.cfg.optimizer: got 'adam', expected an object"),
    ("algorithm.cfg.lr_scheduler", {"name": "step"}, "algorithm.cfg.lr_scheduler: got 'step' with {}, expected linear"),
    ("gym_config", 3, "gym_config: got 3, expected the path"),
    ("env.id", None, "env.id: got None, expected the id of one environment"),
    ("env.id", "os:x", "env: 'os:x' in train_config.json names a module to import")])
def test_what_is_wrong_is_one_line(place, value, message):
    with pytest.raises(ConfigError) as error:
        parsed(changed(TUTORIAL, place, value))
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("data", "message"), [
    (GYM | {"robots": 1}, "robots: unknown key in some/where/gym_config.json; did you mean robot?"),
    ({"env": {}}, "gym_config: 'some/where/gym_config.json' has no id and env")])
def test_what_is_wrong_in_the_second_file(data, message):
    written(data, "gym_config.json")
    with pytest.raises(ConfigError, match="^" + re.escape(message)):
        read_json(written(CODE))


def test_keys_of_env_win_over_the_second_file():
    written(GYM, "gym_config.json")
    data = changed(TUTORIAL, "runtime.gym_config", "gym_config.json")
    config = parsed(changed(changed(data, "env.cfg.episode_length", 30), "env.cfg.obs_mode", None))
    assert config.env_kwargs == {"obs_mode": "state", "episode_length": 30}


def test_a_second_file_that_is_missing_is_one_line():
    with pytest.raises(ConfigError, match=r"cannot read 'some/where/gym_config\.json': No such file"):
        read_json(written(CODE))


def test_our_own_forms_stay():
    for data in ({"alg": "ppo", "iterations": 7}, {"runtime": {"iterations": 7}, "policy": {"policy": "actor_critic"},
                                                   "algorithm": {"alg": "ppo"}, "env": {"env": "CartPole-v1"}}):
        assert not is_published(data)
        assert read_json(written(data))["iterations"] == 7
    for data in (TUTORIAL, CODE, {"env": {"id": "x"}}, {"policy": {"name": "x"}}, {"algorithm": {"name": "ppo"}}):
        assert is_published(data)


def test_the_page_has_every_key():
    page = (ROOT / "docs" / "embodichain.md").read_text(encoding="utf-8")
    names = {place.rpartition(".")[2] for place in KNOWN}
    assert [name for name in sorted(names) if f"`{name}`" not in page] == []


def test_the_shipped_file_is_of_the_tutorials_form():
    path = ROOT / "configs" / "agents" / "rl" / "push_cube" / "train_config.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    assert sorted(data) == ["algorithm", "env", "policy", "runtime"]
    config = parse_args([f"--config={path}"])
    assert config.run_length == data["runtime"]["iterations"] * data["runtime"]["rollout_steps"] * config.num_envs
    assert ALGORITHMS[config.alg].on_policy
