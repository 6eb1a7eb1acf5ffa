"""LSTM and GRU on top of any encoder. T rows, B columns, D features, H units, L layers.

A *stretch* is the part of a column between two resets. torch's fused kernels know no resets, so a sequence with resets
is given to them as a packed batch of its stretches: one call, however many resets there are and wherever they fall.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Gt
from gymnasium import Space
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from triathlon.networks.backbone import Backbone, Obs, State, keep_where
from triathlon.networks.initialization import orthogonal
from triathlon.networks.registry import BackboneConfig, make_encoder, register
from triathlon.networks.transfer import send


@dataclass(frozen=True)
class RecurrentConfig(BackboneConfig):
    """Settings of an LSTM or a GRU."""

    encoder: Annotated[BackboneConfig, "what reads each observation before the memory does"] = field(
        default_factory=BackboneConfig
    )
    hidden_size: Annotated[int, Gt(0), "units of each layer"] = 128
    num_layers: Annotated[int, Gt(0), "layers"] = 1
    skip: Annotated[bool, "put the encoder's features beside the memory's"] = False


@dataclass(frozen=True)
class LSTMConfig(RecurrentConfig):
    """Settings of an LSTM."""

    kind: Annotated[str, "long short-term memory"] = "lstm"


@dataclass(frozen=True)
class GRUConfig(RecurrentConfig):
    """Settings of a GRU."""

    kind: Annotated[str, "gated recurrent unit"] = "gru"


class Recurrent(Backbone):
    """What LSTM and GRU share. State: `num_states` tensors `[B, L, H]`.

    The gate that keeps the memory (the LSTM's forget, the GRU's update gate; the second of the stacked gates in both)
    starts with bias 1 (Gers, Schmidhuber & Cummins 2000; Jozefowicz, Zaremba & Sutskever 2015, section 3.2).
    """

    num_states: ClassVar[int]
    module: ClassVar[type[nn.LSTM | nn.GRU]]

    def __init__(self, space: Space[Any], config: RecurrentConfig) -> None:
        super().__init__()
        self.encoder = make_encoder(config.encoder, space, config.kind)
        self.rnn = orthogonal(self.module(self.encoder.out_features, config.hidden_size, config.num_layers), 1.0)
        # Remember at first: what a gate forgets brings no gradient to what it was.
        for layer in range(config.num_layers):
            bias: Tensor = getattr(self.rnn, f"bias_hh_l{layer}")
            nn.init.constant_(bias[config.hidden_size : 2 * config.hidden_size], 1.0)
        self._skip = config.skip
        self._layers = [
            tuple(f"{name}_l{layer}" for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
            for layer in range(config.num_layers)
        ]
        self.out_features = config.hidden_size + (self.encoder.out_features if config.skip else 0)

    def initial_state(self, batch_size: int) -> State:
        weight: Tensor = self.rnn.weight_hh_l0  # type: ignore[assignment]
        size = (batch_size, len(self._layers), self.rnn.hidden_size)
        return tuple(weight.new_zeros(size) for _ in range(self.num_states))

    def forward(self, obs: Obs, state: State | None = None, is_first: Tensor | None = None) -> tuple[Tensor, State]:
        features = self.encoder(obs)[0]
        if state is None:
            state = self.initial_state(features.shape[1])
        if is_first is not None:
            state = keep_where(state, ~is_first[0])
        if features.shape[0] == 1:
            out, state = self._step(features[0], state)
            out = out.unsqueeze(0)
        elif is_first is None or not (later := is_first[1:].cpu()).any():
            out, last = self.rnn(features, self._pack([s.transpose(0, 1).contiguous() for s in state]))
            state = tuple(s.transpose(0, 1) for s in self._unpack(last))
        else:
            out, state = self._stretches(features, state, later)
        return torch.cat([out, features], -1) if self._skip else out, state

    def _step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """One row `[B, D]`: a cell for each layer, which is cheaper than the call of a whole sequence."""
        rows = []
        for layer, names in enumerate(self._layers):
            after = self._cell(x, [s[:, layer] for s in state], [getattr(self.rnn, name) for name in names])
            rows.append(after)
            x = after[0]
        if len(rows) == 1:
            return x, tuple(s.unsqueeze(1) for s in rows[0])
        return x, tuple(torch.stack(parts, 1) for parts in zip(*rows, strict=True))

    def _stretches(self, features: Tensor, state: State, later: Tensor) -> tuple[Tensor, State]:
        """A sequence with resets at `later [T - 1, B]` (on the CPU) beyond row 0, as a packed batch of stretches.

        With T = 3, B = 2 and a reset in row 1 of column 0, there are three: rows 0 to 2 of column 1, rows 1 and 2 of
        column 0, row 0 of column 0, from the longest to the shortest. Packed they are the rows 1, 2, 0 | 3, 4 | 5 of
        `features.flatten(0, 1)` (`source`), in batches of 3, 2 and 1; row 0 is then at 2, row 1 at 0, … (`row_of`).
        """
        num_rows, num_columns = features.shape[:2]
        starts = torch.cat([torch.ones(1, num_columns, dtype=torch.bool), later]).T  # [B, T]
        column, start = starts.nonzero(as_tuple=True)  # stretches in order of column, then of start
        begin = column * num_rows + start
        length = torch.cat([begin[1:], begin.new_tensor([num_rows * num_columns])]) - begin
        # A packed batch holds row 0 of all stretches, then row 1 of all that have one, …; the longest stretches first.
        length, order = length.sort(descending=True, stable=True)
        column, start = column[order], start[order]
        step = torch.arange(int(length[0])).unsqueeze(1)
        inside = step < length  # [longest, stretches]
        source = ((start + step) * num_columns + column)[inside]
        row_of = torch.empty_like(source)
        row_of[source] = torch.arange(len(source))
        is_start, is_end = start == 0, start + length == num_rows
        last_stretch = torch.empty(num_columns, dtype=torch.long)
        last_stretch[column[is_end]] = is_end.nonzero().squeeze(1)

        first, column, source, row_of, last_stretch = (
            send(x, features.device) for x in (is_start, column, source, row_of, last_stretch)
        )
        before = keep_where(tuple(s[column] for s in state), first)
        packed = PackedSequence(features.flatten(0, 1)[source], inside.sum(1))
        out, last = self.rnn(packed, self._pack([s.transpose(0, 1).contiguous() for s in before]))
        after = tuple(s.transpose(0, 1)[last_stretch] for s in self._unpack(last))
        return out.data[row_of].view(num_rows, num_columns, -1), after

    def _cell(self, x: Tensor, state: list[Tensor], weights: list[Tensor]) -> tuple[Tensor, ...]:
        raise NotImplementedError

    def _pack(self, state: list[Tensor]) -> Any:
        """The state as torch's module wants it."""
        raise NotImplementedError

    def _unpack(self, state: Any) -> tuple[Tensor, ...]:
        raise NotImplementedError


@register("lstm", LSTMConfig)
class LSTM(Recurrent):
    """Hochreiter & Schmidhuber 1997, "Long Short-Term Memory". State: `(h, c)`, each `[B, L, H]`."""

    num_states = 2
    module = nn.LSTM

    def _cell(self, x: Tensor, state: list[Tensor], weights: list[Tensor]) -> tuple[Tensor, ...]:
        return torch.lstm_cell(x, state, *weights)

    def _pack(self, state: list[Tensor]) -> tuple[Tensor, ...]:
        return tuple(state)

    def _unpack(self, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return state


@register("gru", GRUConfig)
class GRU(Recurrent):
    """Cho et al. 2014, "Learning Phrase Representations using RNN Encoder-Decoder", §2.3. State: `(h [B, L, H],)`."""

    num_states = 1
    module = nn.GRU

    def _cell(self, x: Tensor, state: list[Tensor], weights: list[Tensor]) -> tuple[Tensor, ...]:
        return (torch.gru_cell(x, state[0], *weights),)

    def _pack(self, state: list[Tensor]) -> Tensor:
        return state[0]

    def _unpack(self, state: Tensor) -> tuple[Tensor, ...]:
        return (state,)


__all__ = ["GRU", "LSTM", "GRUConfig", "LSTMConfig", "Recurrent", "RecurrentConfig"]
