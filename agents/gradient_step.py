"""One gradient step: forward, loss, backward, clip and Adam on one flat vector of parameters; eager or compiled.

P numbers in the vector.
"""

from __future__ import annotations

import importlib.util
import shutil
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from triathlon.agents.compiled import Compiled
from triathlon.agents.cuda_graph import CudaGraph
from triathlon.agents.ranks import ALONE, Ranks
from triathlon.networks.errors import SettingError
from triathlon.networks.flat import FlatParameters

# `loss(network, *batch)` gives the loss and the numbers to report, `[n]`; `network` is called as the module would be.
Loss: TypeAlias = Callable[..., tuple[Tensor, Tensor]]
# The setting `agent.compile`.
Compile: TypeAlias = Annotated[
    bool | Literal["auto"],
    "compile each gradient step, which takes half a minute once; on a CPU it needs a C++ compiler; auto: if it can",
]
BETA1, BETA2 = 0.9, 0.999


class GradientStep:
    """Moves a network's parameters down a loss by Adam (Kingma & Ba 2015, algorithm 1).

    All parameters are one vector, so Adam is a handful of operations whatever the network. torch.optim.Adam prepares
    groups, hooks and lists at every step, which for a small network costs several times the arithmetic, and its first
    step imports the compiler. Nothing here waits for the device.

    With `compile` the whole step is one compiled function. That pays where the overhead of single operations is most of
    the time, once the half minute that compiling takes is spent. A loss that unrolls a memory or draws random numbers
    cannot be compiled.

    With `cuda_graphs`, on a GPU, the kernels of a step (compiled or not) are recorded and launched together; not where
    the loss unrolls a memory or draws random numbers.

    A batch may also come in parts (`of_parts`), here and in the other processes of `ranks`: their losses, and so their
    gradients, are summed. Then the gradient of a part is one function, and the move another.

    Raises:
        SettingError: `compile` is true and such is the loss, or this machine has no compiler for the network's device.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: Loss,
        learning_rate: float,
        eps: float,
        max_grad_norm: float,
        compile: bool | Literal["auto"],
        draws_or_remembers: bool,
        cuda_graphs: bool = False,
        ranks: Ranks = ALONE,
    ) -> None:
        self.flat = FlatParameters(network)
        self.learning_rate, self.eps, self.max_grad_norm = learning_rate, eps, max_grad_norm
        self._network, self._loss, self._ranks = network, loss, ranks
        self._mean, self._square = torch.zeros_like(self.flat.data), torch.zeros_like(self.flat.data)
        self._num_steps = 0
        self._rates: Tensor | None = None  # [P]: multiplies the learning rate of each number
        self._frozen: frozenset[str] = frozenset()
        # Filled, not sent: a number travels to a GPU with the kernel that writes it, and nobody waits.
        self._scales = torch.zeros(2, device=self.flat.data.device)
        self._run: Callable[..., tuple[Tensor, Tensor]] = self._eager_step
        self._add: Callable[..., Tensor] = self._eager_add
        self._finish: Callable[[], Tensor] = self._clip_and_move
        self.compiles = False
        """Whether the step is compiled, at its first call."""
        self.compile_seconds: float | None = None
        """How long the first step took, if it was compiled."""
        device = self.flat.data.device
        self.can_compile = not draws_or_remembers and has_compiler(device)
        if compile is True and not self.can_compile:
            why = "works with backbones without a memory and heads other than iqn"
            if not draws_or_remembers:
                needed = "a C++ compiler (g++ or clang++)" if device.type == "cpu" else "Triton and a GPU of CUDA"
                why = f"needs {needed}, and there is none"
            raise SettingError(f"agent.compile: true {why}; set it to false")
        if compile and self.can_compile:
            self._run = partial(self._compiled_step, Compiled(self._whole_step))
            self._add = partial(self._compiled_add, Compiled(self._gradient))
            self.compiles = True
        if cuda_graphs and not draws_or_remembers:
            self._run, self._add, self._finish = CudaGraph(self._run), CudaGraph(self._add), CudaGraph(self._finish)

    def scale_rate(self, part: nn.Module, scale: float) -> None:
        """From the first step on, move a part of the network at `scale` times the learning rate; 0: not at all."""
        ours = {id(parameter) for parameter in part.parameters()}
        chosen = {name: id(parameter) in ours for name, parameter in self._network.named_parameters()}
        rates = self.flat.pieces(torch.ones_like(self.flat.data) if self._rates is None else self._rates)
        self._rates = self.flat.joined({name: rate * (scale if chosen[name] else 1.0) for name, rate in rates.items()})
        if scale == 0.0:
            part.requires_grad_(False)
            self._frozen |= {name for name, is_chosen in chosen.items() if is_chosen}

    def __call__(self, *batch: Any) -> tuple[Tensor, Tensor]:
        """One step on a minibatch; returns the numbers that the loss reports and the gradient's norm, unclipped."""
        started = time.perf_counter()
        self._count_step()
        numbers, norm = self._run(*batch)
        self._note_compiling(started)
        return numbers, norm

    def of_parts(self, parts: Sequence[tuple[Any, ...]]) -> tuple[list[Tensor], Tensor]:
        """One step on a minibatch in parts, whose losses add up to that of the minibatch (of all `ranks`).

        Returns the numbers of each part here, and the norm of the whole gradient.
        """
        started = time.perf_counter()
        self._count_step()
        numbers = [self._add(*part) for part in parts]
        self._ranks.sum(self.flat.grad)
        norm = self._finish()
        self._note_compiling(started)
        return numbers, norm

    def _count_step(self) -> None:
        self._num_steps += 1
        # The two bias corrections: m̂ = m / c1 and √v̂ = √v / √c2.
        c1, c2 = 1.0 - BETA1**self._num_steps, 1.0 - BETA2**self._num_steps
        self._scales[0].fill_(self.learning_rate / c1)
        self._scales[1].fill_(c2**-0.5)

    def _note_compiling(self, started: float) -> None:
        if self.compiles:
            self.compile_seconds = self.compile_seconds or time.perf_counter() - started

    def _eager_step(self, *batch: Any) -> tuple[Tensor, Tensor]:
        numbers = self._eager_add(*batch)
        return numbers, self._clip_and_move()

    def _eager_add(self, *batch: Any) -> Tensor:
        """Add the gradient of a batch to the one that is there."""
        loss, numbers = self._loss(self._network, *batch)
        loss.backward()
        return numbers

    @torch.no_grad()
    def _clip_and_move(self) -> Tensor:
        norm = self._move(self._scales, self.flat.data, self._mean, self._square, self.flat.grad)
        self.flat.zero_grad()
        return norm

    @torch.no_grad()
    def _compiled_step(self, compiled: Compiled, *batch: Any) -> tuple[Tensor, Tensor]:
        numbers, norm = compiled(self._scales, self.flat.data, self._mean, self._square, *batch)
        return numbers, norm

    @torch.no_grad()
    def _compiled_add(self, compiled: Compiled, *batch: Any) -> Tensor:
        numbers: Tensor
        numbers, gradient = compiled(self.flat.data, *batch)
        self.flat.grad.add_(gradient)
        return numbers

    def _whole_step(
        self, scales: Tensor, data: Tensor, mean: Tensor, square: Tensor, *batch: Any
    ) -> tuple[Tensor, Tensor]:
        numbers, gradient = self._gradient(data, *batch)
        return numbers, self._move(scales, data, mean, square, gradient)

    def _gradient(self, data: Tensor, *batch: Any) -> tuple[Tensor, Tensor]:
        """The numbers of a batch and its gradient `[P]`, as one function of the parameters `data [P]`."""

        learned = self.flat.pieces(data)
        frozen = {name: learned.pop(name) for name in self._frozen}

        def loss(parameters: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
            def network(*inputs: Any) -> Any:
                return torch.func.functional_call(self._network, parameters | frozen, inputs)

            return self._loss(network, *batch)

        gradients, (_, numbers) = torch.func.grad_and_value(loss, has_aux=True)(learned)
        gradients |= {name: torch.zeros_like(parameter) for name, parameter in frozen.items()}
        return numbers, self.flat.joined(gradients)

    def _move(self, scales: Tensor, data: Tensor, mean: Tensor, square: Tensor, grad: Tensor) -> Tensor:
        """Clip the gradient `[P]` and move the parameters; returns the gradient's norm."""
        norm: Tensor = torch.linalg.vector_norm(grad)
        grad = grad.mul_((self.max_grad_norm / (norm + 1e-6)).clamp(max=1.0))
        mean.lerp_(grad, 1.0 - BETA1)
        square.mul_(BETA2).addcmul_(grad, grad, value=1.0 - BETA2)
        root = square.sqrt().mul_(scales[1]).add_(self.eps)
        move = root.reciprocal_().mul_(mean).mul_(scales[0])
        data.sub_(move if self._rates is None else move.mul_(self._rates))
        return norm

    def state_dict(self) -> dict[str, Any]:
        """The moments and the number of steps."""
        return {"mean": self._mean, "square": self._square, "num_steps": self._num_steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of `state_dict`."""
        self._mean.copy_(state["mean"])
        self._square.copy_(state["square"])
        self._num_steps = state["num_steps"]


def has_compiler(device: torch.device) -> bool:
    """Is there what PyTorch compiles for this device with: a C++ compiler for a CPU, Triton for a GPU?"""
    if device.type == "cpu":
        return bool(shutil.which("g++") or shutil.which("clang++"))
    return device.type == "cuda" and importlib.util.find_spec("triton") is not None
