"""Settings that are read only beside another one: refused without it, kept in records, dropped from presets."""

from __future__ import annotations

import json

import pytest
from settings_cases import complaint

from algorithm.policy import register_policy
from record.directories import check_settings
from utils.errors import ConfigError
from utils.settings.algorithms import ALGORITHMS
from utils.settings.arena_flags import ALGOS
from utils.settings.cli import parse_args
from utils.settings.effects import READ_WITH
from utils.settings.fields import FIELDS, Config
from utils.settings.policies import POLICIES
from utils.settings.resolve import effective, resolve

PPO = ["--alg=ppo", "--env=Pendulum-v1"]
REFUSED = [
    ([*PPO, "--lstm_size=4"],
     "lstm_size: got 4 with --policy=actor_critic, expected --policy=recurrent, which reads it"),
    ([*PPO, "--lstm_layers=2", "--policy=keyed"], "lstm_layers: got 2 with --policy=keyed, expected --policy=recurre"),
    ([*PPO, "--encoder_size=4"], "encoder_size: got 4 with --policy=actor_critic, expected --policy=keyed, which"),
    ([*PPO, "--shared_sizes=8,4", "--policy=recurrent"],
     "shared_sizes: got 8,4 with --policy=recurrent, expected --policy=actor_critic or actor_only, which reads it"),
    ([*PPO, "--shared_encoder=True"],
     "shared_encoder: got True with --policy=actor_critic, expected --policy=conv, recurrent or keyed, which reads it"),
    ([*PPO, "--orthogonal=False", "--actor_gain=1"],
     "actor_gain: got 1.0 with --orthogonal=False, expected --orthogonal=True, which reads it"),
    ([*PPO, "--orthogonal=False", "--critic_gain=2"], "critic_gain: got 2.0 with --orthogonal=False, expected --orth"),
    ([*PPO, "--vf_clip_max=False"],
     "vf_clip_max: got False without --vf_clip_coef, expected --vf_clip_coef=X as well, which reads it"),
    ([*PPO, "--kl_stop=epoch"], "kl_stop: got epoch without --target_kl, expected --target_kl=X as well, which reads"),
    (["--alg=iqn", "--encoder=objects", "--features=9"],
     "features: got 9 with --encoder=objects, expected --encoder=plain, which reads it"),
    (["--alg=iqn", "--object_dims=5,4"], "object_dims: got 5,4 with --encoder=plain, expected --encoder=objects,"),
    (["--alg=iqn", "--object_sizes=5,4"], "object_sizes: got 5,4 with --encoder=plain, expected --encoder=objects,"),
    (["--obs_clip=3"], "obs_clip: got 3.0 with --obs_normalization=False, expected --obs_normalization=True, which"),
    (["--obs_eps=1e-8"], "obs_eps: got 1e-08 with --obs_normalization=False, expected --obs_normalization=True,"),
    (["--lr_schedule=linear", "--lr_decay=0.1"],
     "lr_decay: got 0.1 with --lr_schedule=linear, expected --lr_schedule=exponential, which reads it"),
    (["--lr_schedule=linear", "--lr_start=0.1"],
     "lr_start: got 0.1 without --lr_warmup, expected --lr_warmup=X as well, which reads it"),
]
ARENA = ["--algo=ppo", "--style=1", "--device=cpu"]


@pytest.mark.parametrize(("flags", "begins"), REFUSED, ids=lambda value: value if isinstance(value, str) else "")
def test_a_setting_without_effect_is_refused(flags, begins):
    assert complaint(parse_args, flags).startswith(begins)


def test_every_row_is_refused_somewhere():
    assert {begins.partition(":")[0] for _, begins in REFUSED} == READ_WITH.keys()
    assert {other for other, _ in READ_WITH.values()} <= FIELDS.keys()


@pytest.mark.parametrize("flags", [
    [*PPO, "--policy=recurrent", "--lstm_size=4", "--lstm_layers=2", "--shared_encoder=True"],
    [*PPO, "--policy=keyed", "--encoder_size=4", "--shared_encoder=False"], [*PPO, "--shared_sizes=8"],
    [*PPO, "--vf_clip_coef=0.2", "--vf_clip_max=False"], [*PPO, "--target_kl=0.1", "--kl_stop=epoch"],
    ["--alg=iqn", "--features=9"], ["--alg=iqn", "--encoder=objects", "--object_dims=5,4", "--object_sizes=5,4"],
    ["--obs_normalization=True", "--obs_clip=3", "--obs_eps=1e-8"], ["--basis_alg=ddpg", "--obs_clip=3"],
    ["--lr_schedule=exponential", "--lr_decay=0.1"], ["--lr_schedule=cosine", "--lr_warmup=0.1", "--lr_start=0.1"],
], ids=lambda flags: " ".join(flags[2:]))
def test_beside_the_setting_that_makes_it_read_it_is_accepted(flags):
    parse_args(flags)


@pytest.mark.parametrize("alg", [name for name, one in ALGORITHMS.items() if one.built_in])
def test_defaults_are_accepted_so_that_a_record_resolves_to_itself(alg):
    config = resolve({"alg": alg, "num_envs": 4})
    assert resolve(json.loads(json.dumps(config.settings()))) == config


def test_what_a_user_registered_may_read_anything(monkeypatch):
    monkeypatch.setitem(POLICIES, "of_mine", None)
    register_policy("of_mine", lambda config, generator: None)
    assert resolve({"alg": "ppo", "policy": "of_mine", "lstm_size": 4, "shared_sizes": (3,)}).lstm_size == 4
    monkeypatch.setitem(ALGORITHMS, "mine", type(ALGORITHMS["ppo"])(object, on_policy=True, by_optimizer={},
                                                                  defaults=resolve({"alg": "ppo"}).settings()))
    assert resolve({"alg": "mine", "lstm_size": 4}).lstm_size == 4


# Presets ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("algo", ALGOS)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_run_by_published_words_can_be_repeated_from_its_record(algo, device):
    config = parse_args([f"--algo={algo}", "--style=1", f"--device={device}"])
    assert resolve(json.loads(json.dumps(config.settings()))) == config


def test_flags_decide_which_settings_of_a_preset_have_an_effect():
    assert parse_args(ARENA).vf_clip_max is True                # as read nowhere
    assert parse_args([*ARENA, "--vf_clip_coef=0.2"]).vf_clip_max is False
    assert parse_args(["--algo=ppo_torch", "--policy=recurrent"]).shared_sizes is None
    assert parse_args([*ARENA, "--obs_normalization=False"]).obs_clip is None
    assert complaint(parse_args, [*ARENA, "--lstm_size=4"]).startswith("lstm_size: got 4 with --policy=actor_critic")


# Records of before --------------------------------------------------------------------------------------------------

@pytest.fixture
def older(tmp_path):
    """The directory of a run whose record has a setting without effect."""
    settings = parse_args([*PPO, "--lstm_size=4", "--policy=recurrent"]).settings() | {"policy": "actor_critic"}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    return tmp_path


def test_an_older_record_is_resumed_and_is_the_run_without_that_setting(older):
    config = parse_args([f"--resume={older}"])
    assert config.lstm_size == resolve({"alg": "ppo"}).lstm_size
    check_settings(older, config)
    check_settings(older, parse_args(PPO))
    with pytest.raises(ConfigError, match=r"was run with other settings: gamma 0\.99 -> 0\.5;"):
        check_settings(older, parse_args([*PPO, "--gamma=0.5"]))


def test_as_a_file_of_settings_it_is_refused_by_the_files_name(older):
    message = complaint(parse_args, [f"--config={older / 'config.json'}"])
    assert message == ("lstm_size: got 4 with --policy=actor_critic, expected --policy=recurrent, which reads it (set "
                       f"in {older / 'config.json'})")


def test_only_what_has_no_effect_is_dropped():
    given = {"alg": "ppo", "lstm_size": 4, "kl_stop": "epoch", "target_kl": 0.1, "gamma": None}
    assert effective(given) == {"alg": "ppo", "kl_stop": "epoch", "target_kl": 0.1, "gamma": None}
    assert isinstance(resolve(effective(given)), Config)
