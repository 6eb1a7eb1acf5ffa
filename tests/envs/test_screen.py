"""Drawing chooses its drivers by what the machine has, and leaves alone what the user chose."""

from __future__ import annotations

import os
import sys

import pytest

from triathlon.envs.screen import prepare_drawing

QUIET = {"PYGAME_HIDE_SUPPORT_PROMPT": "1", "SDL_AUDIODRIVER": "dummy"}
OFF_SCREEN = QUIET | {"SDL_VIDEODRIVER": "dummy", "MUJOCO_GL": "egl"}


@pytest.mark.parametrize(
    ("before", "render_mode", "added"),
    [
        ({}, None, OFF_SCREEN),
        ({}, "rgb_array", OFF_SCREEN),
        ({"DISPLAY": ":0"}, None, QUIET),
        ({"DISPLAY": ":0"}, "human", QUIET),
        ({"WAYLAND_DISPLAY": "wayland-0"}, "rgb_array", QUIET | {"SDL_VIDEODRIVER": "dummy"}),
        ({"SDL_VIDEODRIVER": "x11", "MUJOCO_GL": "osmesa"}, "rgb_array", QUIET),
    ],
)
def test_drivers(monkeypatch, before, render_mode, added):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "environ", dict(before))
    prepare_drawing(render_mode)
    assert os.environ == added | before
