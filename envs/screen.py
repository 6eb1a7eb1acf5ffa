"""Drawing on machines that have neither a screen nor a loudspeaker, without complaints about it.

SDL (under pygame) and MuJoCo read these variables once, when they start.
"""

from __future__ import annotations

import os
import sys


def has_screen() -> bool:
    """Whether a window can be opened."""
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def prepare_drawing(render_mode: str | None) -> None:
    """Choose how an environment that is about to be made will draw; what the user has chosen stays as it is."""
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    os.environ.setdefault("SDL_AUDIODRIVER", "dummy")  # without a sound card SDL complains, and environments are silent
    if render_mode == "rgb_array" or not has_screen():
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    if not has_screen():
        os.environ.setdefault("MUJOCO_GL", "egl")
