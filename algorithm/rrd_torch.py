"""The names of `algorithm.decomposition.rrd` and its networks, as the migration guide has them."""

from algorithm.decomposition.networks import ConvRewardNet, MLPRewardNet
from algorithm.decomposition.rrd import RRD

__all__ = ["RRD", "ConvRewardNet", "MLPRewardNet"]
