"""One contract for every backbone. T rows, B columns."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from safetensors.torch import load, save
from torch import Tensor

from triathlon.networks.backbone import Backbone, Obs, State, first_tensor, map_obs
from triathlon.networks.errors import SettingError
from triathlon.networks.registry import BackboneConfig, config_class, kinds, make_backbone

T, B = 11, 3

VECTOR = spaces.Box(-1, 1, (4,))
MATRIX = spaces.Box(-1, 1, (2, 3), dtype=np.float64)
PICTURE = spaces.Box(0, 255, (40, 36, 3), np.uint8)
STACK = spaces.Box(0, 255, (4, 40, 36), np.uint8)
GRID = spaces.Box(0, 1, (10, 10, 4))
PLANES = spaces.Box(0, 1, (4, 3, 5), np.uint8)  # of a small board
TOKEN: spaces.Discrete[Any] = spaces.Discrete(7, start=-2)
TOKENS = spaces.MultiDiscrete([3, 5])
BOARD = spaces.MultiDiscrete(np.full((3, 3), 3))
BITS = spaces.MultiBinary(6)
DICT = spaces.Dict(eye=GRID, body=VECTOR, word=TOKEN, inner=spaces.Dict(bits=BITS))

CASES: list[tuple[str, dict[str, Any], spaces.Space[Any]]] = [
    *(("auto", {}, s) for s in (VECTOR, MATRIX, PICTURE, STACK, GRID, TOKEN, TOKENS, BOARD, BITS, DICT)),
    *(("mlp", {"hidden_sizes": (16, 8)}, s) for s in (VECTOR, GRID, TOKEN, TOKENS, BITS)),
    ("mlp", {"layer_norm": True, "activation": "relu"}, VECTOR),
    *(("cnn", {"features": 16}, s) for s in (PICTURE, STACK, GRID)),
    ("cnn", {"channels": (8,), "kernel_sizes": (4,), "strides": (2,), "features": 0, "channels_last": True}, PICTURE),
    *(("impala", {"channels": (4, 8), "features": 16}, s) for s in (PICTURE, GRID)),
    ("impala", {"channels": (4,), "width": 2, "features": 0, "channels_last": True}, GRID),
    *(("resnet", {"channels": 8, "num_blocks": 2, "features": 16}, s) for s in (GRID, PLANES)),
    ("resnet", {"channels": 8, "num_blocks": 0, "features": 0}, GRID),
    ("patches", {"patch_size": 1, "width": 16, "num_layers": 1}, PLANES),
    *(("patches", {"patch_size": 8, "width": 16, "num_layers": 1}, s) for s in (PICTURE, GRID)),
    ("patches", {"patch_size": 5, "width": 16, "num_layers": 1, "pooling": "cls"}, GRID),
    *(("tokens", {"embedding_size": 8, "join": join}, TOKENS) for join in ("concat", "sum", "mean")),
    ("tokens", {"embedding_size": 8, "mixer_layers": 1}, BOARD),
    ("tokens", {}, TOKEN),
    ("dict", {"encoders": {"body": config_class("mlp")(hidden_sizes=(8,))}, "features": 16}, DICT),  # type: ignore[call-arg]
    *((kind, {"hidden_size": 16}, s) for kind in ("lstm", "gru") for s in (VECTOR, GRID, TOKEN, DICT)),
    *((kind, {"hidden_size": 16, "num_layers": 2, "skip": True}, VECTOR) for kind in ("lstm", "gru")),
    *(("transformer", {"width": 16, "memory_length": 4}, s) for s in (VECTOR, GRID, TOKEN, DICT)),
    ("transformer", {"width": 16, "memory_length": 32, "gated": False}, VECTOR),
    ("transformer", {"width": 16, "memory_length": 1, "num_layers": 1}, VECTOR),
]
NAMES = [f"{i}-{kind}-{type(space).__name__}" for i, (kind, _, space) in enumerate(CASES)]
MEMORIES = ("lstm", "gru", "transformer")


def observations(space: spaces.Space[Any], rows: int = T, columns: int = B, seed: int = 0) -> Obs:
    """Random observations `[rows, columns, *obs]`."""
    if isinstance(space, spaces.Dict):
        return {key: observations(child, rows, columns, seed) for key, child in space.spaces.items()}
    space = copy.deepcopy(space)
    space.seed(seed)
    return torch.as_tensor(np.stack([[space.sample() for _ in range(columns)] for _ in range(rows)]))


def build(kind: str, settings: dict[str, Any], space: spaces.Space[Any], seed: int = 0) -> Backbone:
    torch.manual_seed(seed)
    return make_backbone(config_class(kind)(**settings), space)


def rows(obs: Obs, start: int, stop: int) -> Obs:
    return map_obs(lambda x: x[start:stop], obs)


def in_pieces(backbone: Backbone, obs: Obs, is_first: Tensor, cuts: list[int]) -> tuple[Tensor, State]:
    """Features and last state of a sequence that is cut before the rows `cuts`."""
    state, features = None, []
    for start, stop in zip([0, *cuts], [*cuts, T], strict=True):
        out, state = backbone(rows(obs, start, stop), state, is_first[start:stop])
        features.append(out)
    assert state is not None
    return torch.cat(features), state


def assert_close(actual: Any, expected: Any) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.fixture(params=CASES, ids=NAMES)
def case(request: pytest.FixtureRequest) -> tuple[Backbone, Obs, spaces.Space[Any]]:
    kind, settings, space = request.param
    return build(kind, settings, space), observations(space), space


@pytest.fixture
def is_first() -> Tensor:
    """Resets in row 0, in the middle, in two rows on end, in the last row, and none in column 2."""
    first = torch.zeros(T, B, dtype=torch.bool)
    first[[0, 4, 5], 0] = True
    first[[4, T - 1], 1] = True
    return first


def test_every_registered_kind_is_here():
    assert {kind for kind, _, _ in CASES} == set(kinds())


def test_gives_finite_features_of_the_promised_size(case, is_first):
    backbone, obs, _ = case
    features, state = backbone(obs, None, is_first)
    assert features.shape == (T, B, backbone.out_features)
    assert features.dtype == torch.float32
    assert features.isfinite().all()
    assert features.std() > 0
    expected = backbone.initial_state(B)
    assert [s.shape for s in state] == [s.shape for s in expected]
    assert [s.dtype for s in state] == [s.dtype for s in expected]


@pytest.mark.parametrize("cuts", [list(range(1, T)), [3, 4, 9]], ids=["one by one", "in chunks"])
def test_pieces_joined_by_state_equal_the_whole(case, is_first, cuts):
    backbone, obs, _ = case
    whole, last = backbone(obs, None, is_first)
    joined, joined_last = in_pieces(backbone, obs, is_first, cuts)
    assert_close(joined, whole)
    assert_close(joined_last, last)
    assert_close(in_pieces(backbone, obs, torch.zeros_like(is_first), cuts)[0], backbone(obs)[0])


def test_a_reset_forgets_exactly(case, is_first):
    backbone, obs, space = case
    other = observations(space, seed=1)
    changed = _join(rows(other, 0, 4), rows(obs, 4, T))
    before, _ = backbone(obs, None, is_first)
    after, _ = backbone(changed, None, is_first)
    assert_close(after[4:, :2], before[4:, :2])
    assert not torch.allclose(after[:4], before[:4])
    remembers = bool(backbone.initial_state(1))
    assert torch.allclose(after[4:, 2], before[4:, 2]) != remembers  # column 2 was not reset


def test_a_reset_equals_a_new_beginning(case, is_first):
    backbone, obs, _ = case
    whole, _ = backbone(obs, None, is_first)
    anew, _ = backbone(rows(obs, 4, T), None, is_first[4:])
    assert_close(whole[4:, :2], anew[:, :2])
    dirty = backbone.advance(obs)  # a state that row 0's reset must drop
    everywhere = is_first.clone()
    everywhere[0] = True
    assert_close(backbone(obs, dirty, everywhere)[0], backbone(obs, None, is_first)[0])


def test_state_is_indexed_by_column(case, is_first):
    backbone, obs, _ = case
    pick = torch.tensor([2, 0])
    state = backbone.advance(rows(obs, 0, 6), None, is_first[:6])
    all_columns, _ = backbone(rows(obs, 6, T), state, is_first[6:])
    columns = map_obs(lambda x: x[:, pick], rows(obs, 6, T))
    assert_close(backbone(columns, tuple(s[pick] for s in state), is_first[6:, pick])[0], all_columns[:, pick])


def test_advance_moves_the_memory_as_forward_does(case, is_first):
    backbone, obs, _ = case
    assert_close(backbone.advance(obs, None, is_first), backbone(obs, None, is_first)[1])


def test_every_parameter_gets_a_gradient(case, is_first):
    backbone, obs, _ = case
    features, _ = backbone(obs, None, is_first)
    weight = torch.linspace(-1, 1, features.numel()).sin().view_as(features)
    (features * weight).sum().backward()
    for name, parameter in backbone.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_weights_go_through_a_file(case, is_first):
    backbone, obs, _ = case
    twin = copy.deepcopy(backbone)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(1.0)
    assert not torch.allclose(twin(obs, None, is_first)[0], backbone(obs, None, is_first)[0])
    twin.load_state_dict(load(save(backbone.state_dict())))
    assert_close(twin(obs, None, is_first)[0], backbone(obs, None, is_first)[0])


@pytest.mark.parametrize(("kind", "settings", "space"), CASES, ids=NAMES)
def test_a_seed_decides_the_initial_weights(kind, settings, space):
    first, same, other = (build(kind, settings, space, seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize(
    ("kind", "space"), [("mlp", VECTOR), ("cnn", GRID), ("tokens", TOKEN), *((k, VECTOR) for k in MEMORIES)]
)
def test_exports(kind, space):
    backbone = build(kind, {}, space).eval()
    obs, first = observations(space, 1, 2), torch.tensor([[True, False]])
    state = backbone.initial_state(2)
    program = torch.export.export(backbone, (obs, state, first)).module()
    assert_close(program(obs, state, first), backbone(obs, state, first))


def _join(first: Obs, second: Obs) -> Obs:
    if isinstance(first, Tensor):
        return torch.cat([first, second])  # type: ignore[list-item]
    return {key: _join(first[key], second[key]) for key in first}  # type: ignore[index]


THIRD_PARTY = '''
from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import nn
from triathlon.networks import Backbone, BackboneConfig


@dataclass(frozen=True)
class SumConfig(BackboneConfig):
    scale: Annotated[float, "multiplies the sum"] = 2.0


class RunningSum(Backbone):
    """The sum of what was seen in this episode."""

    Config = SumConfig

    def __init__(self, space, config):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(config.scale))
        self.out_features = space.shape[0]

    def initial_state(self, batch_size):
        return (torch.zeros(batch_size, self.out_features),)

    def forward(self, obs, state=None, is_first=None):
        total = self.initial_state(obs.shape[1])[0] if state is None else state[0]
        rows = []
        for t in range(obs.shape[0]):
            if is_first is not None:
                total = total * ~is_first[t].unsqueeze(-1)
            total = total + obs[t]
            rows.append(total * self.scale)
        return torch.stack(rows), (total,)


class NoConfig(Backbone):
    pass
'''


@pytest.fixture
def own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "my_networks.py").write_text(THIRD_PARTY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", sys.path.copy())
    return "my_networks"


def test_a_backbone_from_a_persons_own_file(own_file, is_first):
    kind = f"{own_file}:RunningSum"
    config = config_class(kind)(scale=3.0)  # type: ignore[call-arg]
    assert config.kind == kind
    backbone = make_backbone(config, VECTOR)
    obs = torch.ones(T, B, 4)
    features, _ = backbone(obs, None, is_first)
    assert features[:, 0, 0].tolist() == [3, 6, 9, 12, 3, 3, 6, 9, 12, 15, 18]
    assert_close(in_pieces(backbone, obs, is_first, [2, 5])[0], features)
    for wrong, says in [("RunningSun", "RunningSum"), ("NoConfig", "Config"), ("torch", "not a Backbone")]:
        with pytest.raises(SettingError, match=says):
            config_class(f"{own_file}:{wrong}")


@pytest.mark.parametrize(
    ("kind", "settings", "space", "says"),
    [
        ("lsmt", {}, VECTOR, "lstm"),
        ("nowhere_at_all:Net", {}, VECTOR, "no module 'nowhere_at_all'"),
        ("mlp", {"activation": "tahn"}, VECTOR, "tanh"),
        ("mlp", {}, DICT, "use kind: auto"),
        ("auto", {}, spaces.Text(5), "cannot read Text observations: they must be Box, Discrete, MultiDiscrete, Multi"),
        ("cnn", {}, VECTOR, "use kind: auto"),
        ("cnn", {"channels": (8,), "kernel_sizes": (11,), "strides": (1,)}, GRID, "too small"),
        ("cnn", {"channels": (8,)}, GRID, "equally long"),
        ("patches", {"patch_size": 11}, GRID, "larger than the picture"),
        ("patches", {"width": 10}, PICTURE, "must divide"),
        ("tokens", {}, VECTOR, "use kind: auto"),
        ("dict", {}, VECTOR, "reads Dict"),
        ("dict", {"encoders": {"eyes": BackboneConfig()}}, DICT, "did you mean 'eye'"),
        ("lstm", {"encoder": config_class("gru")()}, VECTOR, "no memory of its own"),
        ("transformer", {"num_heads": 3}, VECTOR, "must divide"),
    ],
)
def test_settings_that_cannot_be_honoured_are_named(kind, settings, space, says):
    with pytest.raises(SettingError, match=says):
        make_backbone(config_class(kind)(**settings), space)


def test_auto_reads_a_space_by_what_it_is():
    chosen = {
        "VECTOR": VECTOR,
        "PICTURE": PICTURE,
        "TOKEN": TOKEN,
        "BITS": BITS,
        "DICT": DICT,
        "TINY": spaces.Box(0, 1, (3, 3, 2)),
    }
    built = {name: type(make_backbone(BackboneConfig(), space)).__name__ for name, space in chosen.items()}
    assert built == {
        "VECTOR": "MLP",
        "PICTURE": "CNN",
        "TOKEN": "Tokens",
        "BITS": "MLP",
        "DICT": "DictEncoder",
        "TINY": "MLP",
    }


def test_first_tensor_finds_a_leaf_of_nested_dicts():
    assert first_tensor(observations(DICT)).shape[:2] == (T, B)
