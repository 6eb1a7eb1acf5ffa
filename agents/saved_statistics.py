"""What a learner's checkpoint must hold for the learner to go on with it: the statistics that it normalises by."""

from __future__ import annotations

from typing import Any

from triathlon.networks.errors import SettingError


def refuse_other_statistics(state: dict[str, Any], normalize_obs: bool, normalize_reward: bool) -> None:
    """Raises SettingError if the `state_dict` of a learner lacks statistics that are asked for, or has those of others.

    Without its observations' statistics a network is another one, whether they are missing or too many. Those of
    rewards may be too many: then rewards are no longer scaled.
    """
    had_obs = any(name.startswith("norm.") for name in state["network"])
    had_reward = "reward_scaler" in state
    for setting, wanted, had in (
        ("normalize_obs", normalize_obs, had_obs),
        ("normalize_reward", normalize_reward, had_reward and normalize_reward),
    ):
        if wanted != had:
            yes, no = str(wanted).lower(), str(not wanted).lower()
            raise SettingError(f"agent.{setting} is {yes}, and the checkpoint was saved with {no}; set it to {no}")


__all__ = ["refuse_other_statistics"]
