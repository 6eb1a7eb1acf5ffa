"""What sees and remembers: backbones, heads, distributions. Knows nothing of agents or environments."""

from triathlon.networks.backbone import Backbone, Obs, State, device_of, first_tensor, keep_where, map_obs
from triathlon.networks.distributions import ActionDistribution
from triathlon.networks.errors import SettingError
from triathlon.networks.flat import FlatParameters
from triathlon.networks.heads import QHead, QHeadConfig, Quantiles, ValueHead, make_q_head
from triathlon.networks.normalization import ObsNorm, RunningNorm
from triathlon.networks.policy_heads import PolicyHead, make_policy_head
from triathlon.networks.registry import BackboneConfig, config_class, kinds, make_backbone, register

__all__ = [
    "ActionDistribution",
    "Backbone",
    "BackboneConfig",
    "FlatParameters",
    "Obs",
    "ObsNorm",
    "PolicyHead",
    "QHead",
    "QHeadConfig",
    "Quantiles",
    "RunningNorm",
    "SettingError",
    "State",
    "ValueHead",
    "config_class",
    "device_of",
    "first_tensor",
    "keep_where",
    "kinds",
    "make_backbone",
    "make_policy_head",
    "make_q_head",
    "map_obs",
    "register",
]
