"""What a zip of Stable-Baselines3 says of its policy in plain text, and what of it says that it is another than ours.

Beside the pickle of a class SB3 writes its name or its module, beside that of a dict its keys and what its values look
like. Nothing else is read.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from triathlon.training.errors import RunError

TYPE = ":type:"  # the key under which SB3 writes of what class a pickle is
POLICIES = ("stable_baselines3.common.policies", "stable_baselines3.dqn.policies")
EXTRACTORS = tuple(
    f"<class 'stable_baselines3.common.torch_layers.{name}'>" for name in ("FlattenExtractor", "NatureCNN")
)
# Of policy_kwargs, what the weights show, what only training reads, and what is the same at this value.
HARMLESS = (
    *("net_arch", "activation_fn", "share_features_extractor", "ortho_init", "log_std_init"),
    *("optimizer_class", "optimizer_kwargs"),
)
DEFAULTS = {"normalize_images": True, "use_sde": False, "full_std": True, "use_expln": False, "squash_output": False}


def refuse_foreign_policy(path: Path, data: dict[str, Any]) -> None:
    """Raises RunError where the policy of a zip computes otherwise than SB3's own of the same weights, or may do so."""
    policy = data.get("policy_class")
    module = policy.get("__module__") if isinstance(policy, dict) else None
    if module not in POLICIES:
        found = f"is of {module}" if module else "is not named"
        raise RunError(f"{path}: its policy_class {found}; Stable-Baselines3's own MlpPolicy and CnnPolicy come in")
    if data.get("use_sde") is True:
        raise RunError(f"{path}: use_sde is true, an exploration by state that our policies do not have")
    kwargs = data.get("policy_kwargs")
    for name, value in kwargs.items() if isinstance(kwargs, dict) else ():
        if name == TYPE or name in HARMLESS or (name in DEFAULTS and value == DEFAULTS[name]):
            continue
        if name == "features_extractor_class" and value in EXTRACTORS:
            continue
        if name == "features_extractor_kwargs" and isinstance(value, dict) and set(value) <= {"features_dim"}:
            continue  # which the weights show
        raise RunError(
            f"{path}: policy_kwargs has {name} ({value}), with which its policy may compute something else than ours"
        )


def activation(path: Path, data: dict[str, Any], default: str, known: dict[str, str]) -> str:
    """What stands between the layers, by our name of it, of `known` by those of `torch.nn`.

    Raises:
        RunError: it is none of them.
    """
    kwargs = data.get("policy_kwargs")
    named = kwargs.get("activation_fn") if isinstance(kwargs, dict) else None
    if named is None:
        return default
    match = re.fullmatch(r"<class 'torch\.nn\.modules\.activation\.(\w+)'>", str(named))
    if match is None or match[1] not in known:
        raise RunError(f"{path}: its activation is {named}; ours are {', '.join(known.values())}")
    return known[match[1]]


__all__ = ["activation", "refuse_foreign_policy"]
