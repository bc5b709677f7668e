"""TorchRL's own PPO on InvertedPendulum, which is paid only at the end of an episode, with RRD."""

import sys

import torch
from tensordict.nn import TensorDictModule
from torch import nn
from torchrl.collectors import Collector
from torchrl.data import LazyTensorStorage, SamplerWithoutReplacement, TensorDictReplayBuffer
from torchrl.envs import Compose, DoubleToFloat, GymEnv, RewardSum, TransformedEnv
from torchrl.modules import MLP, NormalParamExtractor, ProbabilisticActor, TanhNormal, ValueOperator
from torchrl.objectives import ClipPPOLoss
from torchrl.objectives.value import GAE

import return_decomposition as rd


def main(frames: int = 50_000, per_batch: int = 1000, seed: int = 0) -> list[float]:
    """Train; return the return of each episode."""
    torch.manual_seed(seed)
    env = TransformedEnv(GymEnv("InvertedPendulum-v5"), Compose(DoubleToFloat(), RewardSum(), rd.torchrl.LateReward()))
    env.set_seed(seed)
    size, acts = env.observation_spec["observation"].shape[-1], env.action_spec.shape[-1]

    net = nn.Sequential(MLP(size, 2 * acts, num_cells=[64, 64], activation_class=nn.Tanh), NormalParamExtractor())
    actor = ProbabilisticActor(
        TensorDictModule(net, in_keys=["observation"], out_keys=["loc", "scale"]), in_keys=["loc", "scale"],
        spec=env.action_spec, distribution_class=TanhNormal, return_log_prob=True,
        distribution_kwargs={"low": env.action_spec.space.low, "high": env.action_spec.space.high})
    value = ValueOperator(MLP(size, 1, num_cells=[64, 64], activation_class=nn.Tanh), in_keys=["observation"])
    ppo = ClipPPOLoss(actor, value, clip_epsilon=0.2, entropy_coeff=0.001)
    advantages = GAE(gamma=0.99, lmbda=0.95, value_network=value)
    optimizer = torch.optim.Adam(ppo.parameters(), lr=1e-3)
    decomposer = rd.torchrl.Decomposer("rrd", env, rrd_batch_size=256, rrd_sample_size=16, hidden_sizes=(64, 64))
    collector = Collector(env, actor, postproc=rd.torchrl.PayRollouts(decomposer, updates=100),
                          frames_per_batch=per_batch, total_frames=frames, auto_register_policy_transforms=True)
    minibatches = TensorDictReplayBuffer(storage=LazyTensorStorage(per_batch), sampler=SamplerWithoutReplacement(),
                                         batch_size=min(100, per_batch))
    returns: list[float] = []
    for batch in collector:
        returns += batch["next", "episode_reward"][batch["next", "done"]].tolist()
        for _ in range(10):
            with torch.no_grad():
                advantages(batch)               # after the rewards were paid; time limits are bootstrapped
            minibatches.empty()
            minibatches.extend(batch[batch[rd.torchrl.PAID]])
            for minibatch in minibatches if len(minibatches) else ():
                losses = ppo(minibatch)
                loss = losses["loss_objective"] + losses["loss_critic"] + losses["loss_entropy"]
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(ppo.parameters(), 0.5)
                optimizer.step()
        print(f"mean return of the last 10 episodes {sum(returns[-10:]) / max(1, len(returns[-10:])):.1f}")
    collector.shutdown()
    return returns


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
