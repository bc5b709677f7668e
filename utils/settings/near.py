"""Names that are no settings but mean one: a slip of the keyboard, or what other libraries call it."""

from __future__ import annotations

from collections.abc import Iterable

from utils.settings.algorithms import any_of

# Settings, and what other libraries call them.
ELSEWHERE = {
    ("pi_lr", "q_lr", "r_lr"): "learning_rate lr",
    ("pi_lr",): "actor_lr policy_lr", ("q_lr",): "critic_lr qf_lr", ("r_lr",): "reward_lr",
    ("polyak",): "tau soft_target_tau", ("gamma",): "discount discount_factor",
    ("warmup",): "learning_starts start_steps random_steps start_timesteps",
    ("buffer_size",): "replay_size memory_size capacity", ("num_envs",): "n_envs num_workers",
    ("total_timesteps",): "total_steps max_steps num_steps num_env_steps max_timesteps",
    ("test_timesteps",): "max_episode_steps max_ep_len horizon time_limit episode_length",
    ("test_rollouts",): "eval_episodes n_eval_episodes num_eval_episodes num_test_episodes",
    ("env",): "env_id env_name task gym_id", ("alg",): "algo algorithm_name agent",
    ("alpha_init", "alpha_lr"): "ent_coef temperature", ("pi_delay_freq",): "policy_delay policy_freq policy_frequency",
    ("pi_t_std",): "policy_noise target_policy_noise", ("pi_t_clip",): "noise_clip target_noise_clip",
    ("std_act",): "expl_noise exploration_noise action_noise act_noise",
    ("hidden_sizes",): "net_arch hidden_dim hidden_size layers", ("max_grad_norm",): "grad_clip clip_grad_norm",
}
NOTES = {("pi_lr", "q_lr", "r_lr"): " (of policy, critics and reward network)", ("polyak",): " (1 - tau)"}
SHORT = 8               # below this many letters, names that differ by one letter are often two good names: q_lr, v_lr


def nearly(name: str, settings: Iterable[str]) -> str | None:
    """The setting that `name` nearly is, or None.

    A name is nearly a setting if it differs only in case and underscores (`batchsize`), or has a letter doubled
    (`pi_lrr`) or two neighbours exchanged (`gmama`); long names also if one letter is missing, added or wrong
    (`optimiser`). A plural (`gammas`), a number (`q_lr2`) and another first letter (`v_optimizer`) make another name.
    """
    return next((setting for setting in settings if _is_near(name, setting)), None)


def called_elsewhere(name: str, settings: Iterable[str], prefix: str = "") -> str:
    """`; expected pi_lr, q_lr or r_lr ...` for a name that other libraries give to settings; "" for another name.

    Args:
        settings: those that may be named.
        prefix: stands before each, such as "--".
    """
    plain, known = name.lower().replace("-", "_"), set(settings)
    wanted = next((names for names, others in ELSEWHERE.items() if plain in others.split()), ())
    found = [prefix + one for one in wanted if one in known]
    return f"; expected {any_of(found)}{NOTES.get(wanted, '')}" if found else ""


def _is_near(name: str, setting: str) -> bool:
    plain, wanted = (text.lower().replace("_", "") for text in (name, setting))
    if plain == wanted:
        return name != setting
    if plain[:1] != wanted[:1] or _is_plural(plain, wanted) or any(map(str.isdigit, plain)):
        return False
    return _is_slip(plain, wanted) or (len(wanted) >= SHORT and _is_one_letter_off(plain, wanted))


def _is_plural(one: str, other: str) -> bool:
    return f"{one}s" == other or f"{other}s" == one


def _is_slip(plain: str, wanted: str) -> bool:
    """Whether one letter is doubled or halved, or two neighbours are exchanged."""
    if abs(len(plain) - len(wanted)) == 1:
        short, long = sorted((plain, wanted), key=len)
        return any(long[i] == long[i + 1] and long[:i] + long[i + 1:] == short for i in range(len(short)))
    return any(plain == wanted[:i] + wanted[i + 1] + wanted[i] + wanted[i + 2:] for i in range(len(wanted) - 1))


def _is_one_letter_off(plain: str, wanted: str) -> bool:
    if len(plain) == len(wanted):
        return sum(a != b for a, b in zip(plain, wanted, strict=True)) == 1
    short, long = sorted((plain, wanted), key=len)
    return any(long[:i] + long[i + 1:] == short for i in range(len(long))) and len(long) == len(short) + 1
