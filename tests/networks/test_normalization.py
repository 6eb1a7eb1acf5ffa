"""Running statistics against numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from triathlon.networks.normalization import ObsNorm, RunningNorm
from triathlon.networks.spaces import flat_reader


def test_before_the_first_update_nothing_changes():
    norm = RunningNorm((2,))
    assert norm(torch.tensor([3.0, -20.0])).tolist() == [3.0, -10.0]


def test_numbers():
    norm = RunningNorm((), clip=1.5)
    norm.update(torch.tensor([[1.0, 2.0], [3.0, 6.0]]))  # mean 3, variance 3.5
    assert norm.mean.item() == 3.0
    assert norm.var.item() == 3.5
    assert norm(torch.tensor([1.0, 3.0, 100.0])).tolist() == pytest.approx([-1.0690449, 0.0, 1.5])


@settings(max_examples=50, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 20), min_size=1, max_size=6),
    offset=st.floats(-1e4, 1e4),
    seed=st.integers(0, 2**16),
)
def test_batches_merge_to_what_numpy_says_of_all_of_them(sizes, offset, seed):
    rng = np.random.default_rng(seed)
    batches = [rng.normal(offset, 2.0, (n, 3)).astype(np.float32) for n in sizes]
    norm = RunningNorm((3,))
    for batch in batches:
        norm.update(torch.from_numpy(batch))
    rows = np.concatenate(batches).astype(np.float64)
    assert norm.count.item() == len(rows)
    if len(rows):
        np.testing.assert_allclose(norm.mean.numpy(), rows.mean(0), rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(norm.var.numpy(), rows.var(0), rtol=1e-6, atol=1e-9)


def test_masked_rows_are_left_out():
    norm, expected = RunningNorm((2,)), RunningNorm((2,))
    x = torch.arange(12.0).view(3, 2, 2)
    mask = torch.tensor([[True, False], [True, True], [False, False]])
    norm.update(x, mask)
    expected.update(torch.stack([x[0, 0], x[1, 0], x[1, 1]]))
    assert norm.count.item() == 3
    torch.testing.assert_close(norm.state_dict(), expected.state_dict())


def test_statistics_travel_in_the_state_dict():
    norm, twin = RunningNorm((2,)), RunningNorm((2,))
    norm.update(torch.randn(50, 2, generator=torch.Generator().manual_seed(0)) * 3 + 1)
    twin.load_state_dict(norm.state_dict())
    x = torch.tensor([[1.0, 5.0]])
    torch.testing.assert_close(twin(x), norm(x))
    assert not torch.allclose(twin(x), x)


def test_a_dict_is_scaled_leaf_by_leaf_and_pictures_are_left_alone():
    space = spaces.Dict(
        eye=spaces.Box(0, 255, (10, 10, 3), np.uint8),
        body=spaces.Box(-1, 1, (2,)),
        inner=spaces.Dict(speed=spaces.Box(-9, 9, (1,)), word=spaces.Discrete(5)),
    )
    norm = ObsNorm(space)
    obs: dict[str, Any] = {
        "eye": torch.randint(0, 255, (4, 2, 10, 10, 3), dtype=torch.uint8),
        "body": torch.arange(16.0).view(4, 2, 2),
        "inner": {"speed": torch.arange(8.0).view(4, 2, 1), "word": torch.ones(4, 2, dtype=torch.long)},
    }
    norm.update(obs, torch.ones(4, 2, dtype=torch.bool))
    out = norm(obs)
    assert torch.equal(out["eye"], obs["eye"])
    assert torch.equal(out["inner"]["word"], obs["inner"]["word"])
    for leaf in (out["body"], out["inner"]["speed"]):
        torch.testing.assert_close(leaf.mean((0, 1)), torch.zeros(leaf.shape[-1]), atol=1e-6, rtol=0)
        torch.testing.assert_close(leaf.var((0, 1), correction=0), torch.ones(leaf.shape[-1]))


def test_bytes_that_were_normalised_are_not_scaled_as_bytes_again():
    space = spaces.Dict(body=spaces.Box(0, 255, (3,), np.uint8), eye=spaces.Box(0, 255, (10, 10, 3), np.uint8))
    norm = ObsNorm(space)
    obs = {"body": torch.randint(0, 256, (1, 500, 3), dtype=torch.uint8), "eye": torch.zeros(1, 500, 10, 10, 3)}
    norm.update(obs)
    assert isinstance(norm.space, spaces.Dict) and norm.space["eye"] == space["eye"]
    read, size = flat_reader(norm.space["body"], "mlp")
    seen = norm(obs)["body"] if read is None else read(norm(obs)["body"])
    assert size == 3
    torch.testing.assert_close(seen.std((0, 1)), torch.ones(3), atol=0.01, rtol=0)
