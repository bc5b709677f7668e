"""The table of on-policy policies by name: text only, so that help and completion need no PyTorch.

`algorithm.policy.register_policy` adds rows. Every list of policies, in an error, in help, in a schema, comes from it.
"""

from __future__ import annotations

from collections.abc import Callable

# What builds each: "module:attribute"; the class or function itself if a user registered it.
POLICIES: dict[str, str | Callable] = {
    "actor_critic": "algorithm.policy.actor_critic:ActorCritic",
    "actor_only": "algorithm.policy.actor_critic:ActorOnly",
    "conv": "algorithm.policy.conv:ConvActorCritic",
    "recurrent": "algorithm.policy.recurrent:RecurrentActorCritic",
    "keyed": "algorithm.policy.keyed:KeyedActorCritic",
    "vla": "algorithm.policy.published:VLAPlaceholderPolicy",
}
BUILT_IN = tuple(POLICIES)
