"""Which attributes of `args` are nearly a setting, and which are names of a user's own."""

from __future__ import annotations

import re
import warnings
from argparse import Namespace

import pytest

from algorithm import create_agent
from algorithm.replay_buffer import create_buffer
from utils.settings.fields import FIELDS
from utils.settings.near import ELSEWHERE, called_elsewhere, nearly

READ = [name for name, one in FIELDS.items() if one.group.read_by_agent]
NEAR = {"pi_lrr": "pi_lr", "q_lrr": "q_lr", "ppi_lr": "pi_lr", "gama": "gamma", "gamma_": "gamma", "gmama": "gamma",
        "GAMMA": "gamma", "batchsize": "batch_size", "batch_sise": "batch_size", "batch_sze": "batch_size",
        "batchh_size": "batch_size", "warm_up": "warmup", "duelling": "dueling", "optimiser": "optimizer",
        "obs_normalisation": "obs_normalization", "poliak": None, "polyakk": "polyak", "alpha_lrr": "alpha_lr",
        "adam_eps": "Adam_eps", "traintarget": "train_target", "train_batchs": "train_batches", "precison": "precision",
        "rrd_sampel_size": "rrd_sample_size", "basis_algo": "basis_alg", "bufer_size": "buffer_size"}
# Names that scripts for reinforcement learning often give to settings of their own.
OWN = re.findall(r"\w+", """
act_dim act_dims acts_num action_dim actor_lr algo algo_name alphas autotune batch batch_sizes batches buffer buffers
capture_video checkpoint checkpoints clip comment config critic_lr cuda data debug decay device_id devices dims
discount double_q eps eps_end eps_start epsilon env_id env_name envs epoch epochs eval eval_freq exp_name expl_noise
freq gammas gpu gradient_steps grad_clip hidden hidden_dim horizon id init_alpha kl_coef lam layers learning_rate
learning_starts load log_dir log_freq log_interval logdir logger lr lr_actor lr_critic max_episode_steps max_steps
mode model name n_envs n_steps no_cuda noise noise_clip noise_std num_envs num_workers obs_dim obs_shape optimizers
output pi_lr2 pi_lrs policy policy_freq policy_lr policy_noise precisions project qf_lr q_lr1 q_lr2 q_lrs random_seed
ratio render replay replay_buffer replay_size reward_scale rewards run_name runs save save_dir save_freq save_model
scale seeds size speed start_steps start_timesteps std steps tag target_entropy target_update tau temperature test
threads time train train_freq update_every updates use_gpu v_lr val value_lr verbose wandb wandb_project weight
weight_decay width work_dir
n_batch_size v_optimizer q_optimizer""")


@pytest.mark.parametrize(("name", "setting"), NEAR.items())
def test_a_typing_error_is_nearly_a_setting(name, setting):
    assert nearly(name, READ) == setting


@pytest.mark.parametrize("name", OWN)
def test_a_users_own_name_is_not_nearly_a_setting(name):
    assert nearly(name, READ) is None


def args(**more) -> Namespace:
    return Namespace(obs_dims=3, acts_dims=1, device="cpu", buffer_size=100, test_timesteps=10, **{"alg": "sac"} | more)


@pytest.mark.parametrize("make", [create_agent, create_buffer])
def test_an_attribute_that_is_nearly_a_setting_is_a_warning_that_names_it_and_the_line(make):
    with pytest.warns(UserWarning, match=r"^pi_lrr: not a setting, and not read; did you mean pi_lr\?$") as found:
        make(args(pi_lrr=1e-4))
    assert [one.filename for one in found] == [__file__]


class OfAClass:
    alg, obs_dims, acts_dims, device, batchsize = "sac", 3, 1, "cpu", 32

    def gmama(self):
        """A method is an attribute as well."""


def test_an_attribute_of_a_class_that_is_nearly_a_setting_is_a_warning():
    with pytest.warns(UserWarning, match="did you mean") as found:
        create_agent(OfAClass())
    assert sorted(str(one.message).partition(":")[0] for one in found) == ["batchsize", "gmama"]


@pytest.mark.parametrize("fine", [
    dict(pi_lrr=1e-4, pi_lr=1e-3), dict(pi_lrr=1e-4, alg="dqn"), dict(duelling=True), dict(r_lrr=1e-3),
    dict(alg="rrd", **dict.fromkeys(OWN, 1) | {"cuda": False, "tag": "x", "epochs": 1, "num_envs": 1}),
], ids=["the setting is given", "not read by dqn", "not read by sac", "not read by sac, too", "names of ones own"])
def test_nothing_else_warns(fine):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        create_agent(args(**fine))


def test_what_other_libraries_call_settings_leads_to_settings_that_exist():
    assert {name for names in ELSEWHERE for name in names} <= {*FIELDS}
    others = " ".join(ELSEWHERE.values()).split()
    assert len(others) == len(set(others))
    assert {*others} & {*FIELDS} == {"learning_rate", "ent_coef"}      # of PPO and A2C alone
    assert called_elsewhere("lr", ["q_lr", "gamma"]) == "; expected q_lr (of policy, critics and reward network)"
    assert called_elsewhere("lr", ["gamma"]) == called_elsewhere("rate", FIELDS) == ""
