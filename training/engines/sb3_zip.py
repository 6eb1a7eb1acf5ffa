"""Stable-Baselines3's zips, read without running what is in them.

A zip holds `data` (JSON whose richer values are pickles) and `policy.pth` (tensors). Of the first only what is plain
JSON is read, of the second only tensors (PyTorch's `weights_only`); no pickle is ever loaded. A actions.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from triathlon.agents.actor_critic import ActorCritic
from triathlon.agents.q_network import QNetwork
from triathlon.networks.cnn import CNN, NATURE
from triathlon.networks.heads import CategoricalQHead, ImplicitQuantileQHead, QHead, QuantileQHead
from triathlon.networks.mlp import MLP
from triathlon.networks.noisy import NoisyLinear
from triathlon.training.engines.sb3_policy_text import activation, refuse_foreign_policy
from triathlon.training.errors import RunError

SERIALIZED = ":serialized:"  # the key under which SB3 keeps a pickle in its JSON
ACTIVATIONS = {"Tanh": "tanh", "ReLU": "relu", "ELU": "elu", "SiLU": "silu", "GELU": "gelu"}  # torch.nn's and ours
# Settings that a zip holds as plain numbers: SB3's names and ours.
_BOTH = ("learning_rate", "gamma", "batch_size", "max_grad_norm")
PLAIN: dict[str, dict[str, str]] = {
    "ppo": {name: name for name in (*_BOTH, "gae_lambda", "ent_coef", "vf_coef", "target_kl")}
    | {"n_steps": "num_steps", "n_epochs": "num_epochs"},
    "dqn": {name: name for name in (*_BOTH, "buffer_size", "learning_starts", "exploration_fraction")}
    | {
        "exploration_initial_eps": "initial_epsilon",
        "exploration_final_eps": "final_epsilon",
        "target_update_interval": "target_period",
    },
}


@dataclass(frozen=True)
class SB3Zip:
    """What a zip says: its plain values by SB3's names, and the weights by SB3's names of them."""

    path: Path
    data: dict[str, Any]
    weights: dict[str, Tensor]

    @property
    def kind(self) -> str:
        """`ppo` or `dqn`.

        Raises:
            RunError: it is neither.
        """
        if "action_net.weight" in self.weights:
            return "ppo"
        if "q_net.q_net.0.weight" in self.weights:
            return "dqn"
        some = ", ".join(list(self.weights)[:3]) or "no weights"
        raise RunError(f"{self.path} holds neither a PPO nor a DQN of Stable-Baselines3 (it has {some})")

    @property
    def num_timesteps(self) -> int:
        """How long it was trained, in environment steps; 0 if it does not say."""
        found = self.data.get("num_timesteps")
        return found if isinstance(found, int) else 0

    def configuration(self) -> dict[str, Any]:
        """The sections `agent` and `backbone` of an experiment with this network.

        Raises:
            RunError: it is no PPO or DQN, or none of our networks is like it.
        """
        kind = self.kind
        refuse_foreign_policy(self.path, self.data)
        agent: dict[str, Any] = {"kind": kind}
        for theirs, ours in PLAIN[kind].items():
            value = self.data.get(theirs)
            if isinstance(value, int | float) and not isinstance(value, bool):
                agent[ours] = value
        if kind == "ppo":
            sizes, value_sizes = (self._sizes(f"mlp_extractor.{part}_net") for part in ("policy", "value"))
            if sizes != value_sizes:
                raise RunError(
                    f"{self.path}: its policy has layers of {sizes} units, its value of {value_sizes}; ours are equal"
                )
            agent["share_backbone"] = self._has_cnn and self._shares_cnn
        else:
            sizes = self._sizes("q_net.q_net")[:-1]
        between = activation(self.path, self.data, {"ppo": "tanh", "dqn": "relu"}[kind], ACTIVATIONS)
        if not self._has_cnn:
            backbone = {"kind": "mlp", "hidden_sizes": sizes, "activation": between}
            return {"agent": agent, "backbone": backbone}
        if len(sizes) > (kind == "dqn"):
            raise RunError(f"{self.path} has layers of {sizes} units after its CNN, where our networks have none")
        if sizes:
            if between != "relu":
                raise RunError(f"{self.path} has {between} in the layer after its CNN, where our head has relu")
            agent["head"] = {"hidden_size": sizes[0]}
        channels, kernels, strides = map(list, NATURE)
        features = len(self.weights[f"{self._reader}.linear.0.weight"])
        backbone = {"kind": "cnn", "channels": channels, "kernel_sizes": kernels, "strides": strides}
        return {"agent": agent, "backbone": backbone | {"features": features}}

    @property
    def _reader(self) -> str:
        return "q_net.features_extractor" if self.kind == "dqn" else "features_extractor"

    @property
    def _has_cnn(self) -> bool:
        return f"{self._reader}.cnn.0.weight" in self.weights

    @property
    def _shares_cnn(self) -> bool:
        weights, name = self.weights, "features_extractor.cnn.0.weight"
        return torch.equal(weights[f"pi_{name}"], weights[f"vf_{name}"])

    def _sizes(self, prefix: str) -> list[int]:
        """The units of each layer of a sequence of them."""
        found = {
            int(match[1]): len(weight)
            for name, weight in self.weights.items()
            if (match := re.fullmatch(rf"{re.escape(prefix)}\.(\d+)\.weight", name))
        }
        return [found[i] for i in sorted(found)]


def read_zip(path: Path) -> SB3Zip:
    """What stands in an SB3 zip; pickles in it stay closed.

    Raises:
        RunError: it is not there, no such zip, or its weights are not plain tensors.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            data = json.loads(archive.read("data"))
            weights = torch.load(io.BytesIO(archive.read("policy.pth")), map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise RunError(f"there is no file {path}") from error
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise RunError(f"{path} is not a zip that Stable-Baselines3 saved a model in: {error}") from error
    except Exception as error:  # whatever PyTorch says of a file that holds more than tensors
        raise RunError(f"{path} is not read: its policy.pth holds something else than plain tensors") from error
    if not isinstance(data, dict) or not isinstance(weights, dict):
        raise RunError(f"{path} is not a zip that Stable-Baselines3 saved a model in")
    if not all(isinstance(name, str) and isinstance(x, Tensor) for name, x in weights.items()):
        raise RunError(f"{path} is not read: its policy.pth holds something else than named tensors")
    return SB3Zip(path, {key: _plain(value) for key, value in data.items()}, dict(weights))


def _plain(value: Any) -> Any:
    """A value of the JSON without the pickle that it may hold; what SB3 writes beside it for readers stays."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items() if key != SERIALIZED}
    return value


# --- which of SB3's tensors is which of ours --------------------------------------------------------------------------


def fill_network(network: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    """Copy the weights of a zip into our network.

    Raises:
        RunError: a tensor is missing, of another shape (that of another environment), or nothing of ours.
    """
    used: set[str] = set()
    for ours, names in named_tensors(network):
        for name in names:
            if name not in weights:
                raise RunError(f"{path} has no {name}, which a network for this environment needs")
            theirs = weights[name]
            if theirs.shape != ours.shape:
                raise RunError(
                    f"{path}: {name} has shape {tuple(theirs.shape)}, and this environment needs {tuple(ours.shape)}"
                )
            if not torch.equal(theirs, weights[names[0]]):
                raise RunError(f"{path}: {name} and {names[0]} differ, where our network has one")
        with torch.no_grad():
            ours.copy_(weights[names[0]])
        used |= set(names)
    unknown = [name for name in weights if name not in used and not name.startswith("q_net_target.")]
    if unknown:
        raise RunError(f"{path} has {', '.join(unknown[:3])}, which our networks have no place for")


def named_tensors(network: nn.Module) -> Iterator[tuple[Tensor, tuple[str, ...]]]:
    """Each tensor of our network with SB3's names of it, of which there are several where SB3 keeps copies.

    Raises:
        RunError: the network is none that SB3's own policies can be.
    """
    if getattr(network, "norm", None) is not None:
        raise RunError("agent.normalize_obs is true, which SB3's networks do not do")
    if isinstance(network, QNetwork):
        _refuse_other_head(network.head)
        layers = [part for part in network.head.advantage.modules() if isinstance(part, nn.Linear)]
        offset = yield from _backbone(network.backbone, ["q_net."], ["q_net.q_net"])
        yield from _linears(layers, ["q_net.q_net"], offset)
        return
    assert isinstance(network, ActorCritic)
    actor, critic = network.actor, network.critic
    if critic is None:
        cnn = ["", "pi_", "vf_"]
        yield from _backbone(actor, cnn, ["mlp_extractor.policy_net", "mlp_extractor.value_net"])
    else:
        yield from _backbone(actor, ["", "pi_"], ["mlp_extractor.policy_net"])
        yield from _backbone(critic, ["vf_"], ["mlp_extractor.value_net"])
    head = network.policy_head
    yield from _linear(head.linear, ["action_net"])
    if isinstance(log_std := getattr(head, "log_std", None), Tensor):
        yield log_std, ("log_std",)
    yield from _linear(network.value_head.linear, ["value_net"])


def _refuse_other_head(head: QHead) -> None:
    if type(head) is not QHead:
        kind = {CategoricalQHead: "c51", QuantileQHead: "qr", ImplicitQuantileQHead: "iqn"}[type(head)]
        raise RunError(f"agent.head.kind is {kind}, and SB3's own DQN learns expected values only")
    if head.value is not None:
        raise RunError("agent.head.dueling is true, and SB3's own DQN has one stream")
    if any(isinstance(part, NoisyLinear) for part in head.modules()):
        raise RunError("agent.head.noisy is true, and SB3's own DQN explores by epsilon only")


def _backbone(backbone: nn.Module, readers: list[str], trunks: list[str]) -> Any:
    """The tensors of a backbone; returns how many modules of the trunk it takes."""
    if isinstance(backbone, MLP) and not backbone.norms:
        yield from _linears(list(backbone.layers), trunks, 0)
        return 2 * len(backbone.layers)
    if isinstance(backbone, CNN) and not backbone.norms and backbone.linear is not None:
        convolutions: list[Any] = list(backbone.convolutions)
        shapes = [(c.out_channels, c.kernel_size[0], c.stride[0]) for c in convolutions]
        if shapes == list(zip(*NATURE, strict=True)):
            yield from _linears(
                list(backbone.convolutions), [f"{reader}features_extractor.cnn" for reader in readers], 0
            )
            yield from _linear(backbone.linear, [f"{reader}features_extractor.linear.0" for reader in readers])
            return 0
    raise RunError(
        "SB3's own policies have no such backbone: they are backbone.kind mlp without layer_norm, or the cnn of Nature "
        "(for pictures of 36 pixels and more) without layer_norm"
    )


def _linears(layers: list[Any], prefixes: list[str], offset: int) -> Iterator[tuple[Tensor, tuple[str, ...]]]:
    """Layers with an activation after each, as `nn.Sequential` numbers them."""
    for i, layer in enumerate(layers):
        yield from _linear(layer, [f"{prefix}.{offset + 2 * i}" for prefix in prefixes])


def _linear(layer: Any, prefixes: list[str]) -> Iterator[tuple[Tensor, tuple[str, ...]]]:
    for part in ("weight", "bias"):
        yield getattr(layer, part), tuple(f"{prefix}.{part}" for prefix in prefixes)


__all__ = ["ACTIVATIONS", "SB3Zip", "fill_network", "named_tensors", "read_zip"]
