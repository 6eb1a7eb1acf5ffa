"""Functions on a GPU recorded as CUDA graphs: all their kernels are launched by one call."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from triathlon.networks.errors import SettingError

NUM_WARM_UPS = 3  # calls before the recording: kernels are chosen and buffers made in them (PyTorch, "CUDA semantics")
MAX_RECORDINGS = 4  # shapes that one function is recorded for; each holds memory of its own


@dataclass(slots=True)
class _Recording:
    graph: torch.cuda.CUDAGraph
    inputs: list[Any]  # what the graph reads: tensors that keep their place in memory
    outputs: Any


class CudaGraph:
    """Calls `function(*inputs)` by replaying the kernels that it launched before, which costs the CPU one launch.

    Inputs and outputs are nests (tuples, lists, dicts) of tensors on one GPU; leaves that are no tensors are constants
    of a recording. The function must launch the same kernels whatever the values are, never wait for the GPU, draw
    random numbers from `generators` only, and find everything else that it reads or changes at the same place in memory
    each time (parameters of networks and buffers that are written in place do). The first calls with new shapes run it
    as it is. Outputs are copies: they belong to the caller.
    """

    def __init__(self, function: Callable[..., Any], generators: Sequence[torch.Generator] = ()) -> None:
        self._function, self._generators = function, generators
        self._stream: torch.cuda.Stream | None = None
        self._num_calls: dict[Hashable, int] = {}
        self._recordings: dict[Hashable, _Recording] = {}

    def __call__(self, *inputs: Any) -> Any:
        leaves, nest = pytree.tree_flatten(inputs)
        shapes = tuple((x.shape, x.dtype) if isinstance(x, Tensor) else x for x in leaves)
        if shapes in self._recordings:
            return self._replay(self._recordings[shapes], leaves)
        num_calls = self._num_calls[shapes] = self._num_calls.get(shapes, 0) + 1
        if len(self._recordings) == MAX_RECORDINGS:
            return self._function(*inputs)
        if num_calls <= NUM_WARM_UPS:
            return self._warm_up(inputs)
        self._recordings[shapes] = self._record(leaves, nest)
        return self._replay(self._recordings[shapes], leaves)

    def _warm_up(self, inputs: Sequence[Any]) -> Any:
        """Run beside the main stream, as the recording will."""
        self._stream = self._stream or torch.cuda.Stream()
        main = torch.cuda.current_stream()
        self._stream.wait_stream(main)
        with torch.cuda.stream(self._stream):
            outputs = self._function(*inputs)
        main.wait_stream(self._stream)
        return outputs

    def _record(self, leaves: Sequence[Any], nest: Any) -> _Recording:
        inputs = [x.clone() if isinstance(x, Tensor) else x for x in leaves]
        graph = torch.cuda.CUDAGraph()
        for generator in self._generators:
            graph.register_generator_state(generator)
        # Other threads (writers of pictures and curves) may use the GPU meanwhile.
        with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
            outputs = self._function(*pytree.tree_unflatten(inputs, nest))
        return _Recording(graph, inputs, outputs)

    @staticmethod
    def _replay(recording: _Recording, leaves: Sequence[Any]) -> Any:
        for place, value in zip(recording.inputs, leaves, strict=True):
            if isinstance(place, Tensor):
                place.copy_(value, non_blocking=True)
        recording.graph.replay()
        return pytree.tree_map_only(Tensor, Tensor.clone, recording.outputs)


def check_graphs(wanted: bool, device: torch.device) -> None:
    """Raises SettingError if graphs are wanted where there are none."""
    if wanted and device.type != "cuda":
        raise SettingError(f"agent.cuda_graphs: true needs a GPU of CUDA, and device is {device.type}; set it to false")


__all__ = ["CudaGraph", "check_graphs"]
