"""MarineNav inside TorchRL: environment, policy, replay, trainer. It needs the extra `torchrl`."""
