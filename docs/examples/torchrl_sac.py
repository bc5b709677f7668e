"""TorchRL's own SAC on InvertedPendulum, which is paid only at the end of an episode, with RRD."""

import sys

import torch
from tensordict.nn import InteractionType, TensorDictModule
from torch import nn
from torchrl.collectors import Collector
from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer
from torchrl.envs import Compose, DoubleToFloat, GymEnv, RewardSum, TransformedEnv
from torchrl.modules import MLP, NormalParamExtractor, ProbabilisticActor, TanhNormal, ValueOperator
from torchrl.objectives import SACLoss, SoftUpdate

import return_decomposition as rd


def main(frames: int = 20_000, warmup: int = 1000, per_batch: int = 100, seed: int = 0) -> list[float]:
    """Train; return the return of each episode."""
    torch.manual_seed(seed)
    env = TransformedEnv(GymEnv("InvertedPendulum-v5"), Compose(DoubleToFloat(), RewardSum(), rd.torchrl.LateReward()))
    env.set_seed(seed)
    size, acts = env.observation_spec["observation"].shape[-1], env.action_spec.shape[-1]

    net = nn.Sequential(MLP(size, 2 * acts, num_cells=[128, 128], activation_class=nn.ReLU), NormalParamExtractor())
    actor = ProbabilisticActor(
        TensorDictModule(net, in_keys=["observation"], out_keys=["loc", "scale"]), in_keys=["loc", "scale"],
        spec=env.action_spec, distribution_class=TanhNormal, return_log_prob=False,
        distribution_kwargs={"low": env.action_spec.space.low, "high": env.action_spec.space.high},
        default_interaction_type=InteractionType.RANDOM)
    critic = ValueOperator(MLP(size + acts, 1, num_cells=[128, 128], activation_class=nn.ReLU),
                           in_keys=["observation", "action"])
    sac = SACLoss(actor, critic)
    sac.make_value_estimator(gamma=0.99)
    targets = SoftUpdate(sac, tau=0.005)
    optimizer = torch.optim.Adam(sac.parameters(), lr=1e-3)

    decomposer = rd.torchrl.Decomposer("rrd", env, rrd_batch_size=64, rrd_sample_size=16, hidden_sizes=(64, 64))
    replay = TensorDictReplayBuffer(storage=LazyTensorStorage(frames), transform=rd.torchrl.PaySampled(decomposer),
                                    batch_size=64)
    collector = Collector(env, actor, frames_per_batch=per_batch, total_frames=frames, init_random_frames=warmup,
                          auto_register_policy_transforms=True)
    returns: list[float] = []
    for batch in collector:
        replay.extend(batch.reshape(-1))
        returns += batch["next", "episode_reward"][batch["next", "done"]].tolist()
        for _ in range(batch.numel() if len(replay) >= warmup else 0):
            decomposer.update()
            losses = sac(replay.sample())
            loss = losses["loss_actor"] + losses["loss_qvalue"] + losses["loss_alpha"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            targets.step()
        print(f"{len(replay)} steps, mean return of the last 10 episodes {sum(returns[-10:]) / 10:.1f}")
    collector.shutdown()
    return returns


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
