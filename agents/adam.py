"""Adam on one flat vector of parameters.

P numbers in the vector.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Adam:
    """Adam (Kingma & Ba 2015, algorithm 1) with the gradient first scaled down to a greatest norm.

    torch.optim.Adam prepares groups, hooks and lists of tensors at every step, which for a small network costs several
    times the arithmetic, and its first step imports the compiler. On one vector nothing of that is needed. All numbers
    stay on the device: a step never waits for it.
    """

    def __init__(
        self, data: Tensor, grad: Tensor, learning_rate: float, eps: float, max_grad_norm: float,
        betas: tuple[float, float] = (0.9, 0.999),
    ) -> None:
        self.learning_rate, self.eps, self.max_grad_norm, self.betas = learning_rate, eps, max_grad_norm, betas
        self._data, self._grad = data, grad
        self._mean, self._square = torch.zeros_like(data), torch.zeros_like(data)
        self._num_steps = 0

    @torch.no_grad()
    def step(self) -> Tensor:
        """Move the parameters against the gradient `[P]` and clear it; returns the gradient's norm before scaling."""
        grad, (beta1, beta2) = self._grad, self.betas
        self._num_steps += 1
        norm = torch.linalg.vector_norm(grad)
        grad.mul_((self.max_grad_norm / (norm + 1e-6)).clamp_(max=1.0))
        self._mean.lerp_(grad, 1.0 - beta1)
        self._square.mul_(beta2).addcmul_(grad, grad, value=1.0 - beta2)
        # The two bias corrections, as numbers: m̂ = m / c1 and √v̂ = √v / √c2.
        c1, c2 = 1.0 - beta1**self._num_steps, 1.0 - beta2**self._num_steps
        root = self._square.sqrt().mul_(c2**-0.5).add_(self.eps)
        self._data.addcdiv_(self._mean, root, value=-self.learning_rate / c1)
        grad.zero_()
        return norm

    def state_dict(self) -> dict[str, Any]:
        """The moments and the number of steps."""
        return {"mean": self._mean, "square": self._square, "num_steps": self._num_steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of `state_dict`."""
        self._mean.copy_(state["mean"])
        self._square.copy_(state["square"])
        self._num_steps = state["num_steps"]
