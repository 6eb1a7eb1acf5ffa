"""Generators: which are seeded, and which can go on from a saved state."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from triathlon.agents.randomness import initialisation, restore_generator


def test_a_generator_goes_on_from_the_state_of_one_of_its_kind() -> None:
    first, second = (torch.Generator().manual_seed(seed) for seed in (1, 2))
    torch.rand(5, generator=first)
    restore_generator(second, first.get_state())
    assert torch.rand(5, generator=first).equal(torch.rand(5, generator=second))


def test_a_generator_keeps_its_seed_where_the_state_is_of_another_device() -> None:
    first, second = (torch.Generator().manual_seed(1) for _ in range(2))
    restore_generator(second, torch.zeros(16, dtype=torch.uint8))  # what a generator of CUDA saves: seed and offset
    assert torch.rand(5, generator=first).equal(torch.rand(5, generator=second))


def test_parameters_are_drawn_from_the_seed_and_global_generators_are_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    of_gpus: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", of_gpus.append)
    before = torch.get_rng_state()
    drawn = []
    for seed in (1, 1, 2):
        with initialisation(np.random.SeedSequence(seed)):
            drawn.append(torch.rand(5))
    assert drawn[0].equal(drawn[1]) and not drawn[0].equal(drawn[2])
    assert torch.get_rng_state().equal(before)
    assert of_gpus == []
