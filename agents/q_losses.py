"""The loss of each kind of Q-head against its bootstrap target, row by row.

L rows in time, N samples, A actions, Z atoms, K quantiles. Every target is `returns + discount * bootstrap`.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from triathlon.agents.returns import categorical_projection, quantile_huber_loss, value_rescale, value_unscale
from triathlon.networks.heads import CategoricalQHead, QHead, Quantiles


@dataclass(slots=True)
class Target:
    """What a row is pulled to: `returns [L, N]` plus `discount [L, N]` times what the target network says of `action`."""

    returns: Tensor
    discount: Tensor
    output: Tensor | Quantiles  # of the target network's head at the bootstrap rows, [L, N, A, ...]
    action: Tensor  # [L, N], the action to bootstrap from
    rescale: bool = False

    def select(self, columns: slice) -> Target:
        """Some of the N samples, as views."""
        output = self.output
        return Target(
            self.returns[:, columns],
            self.discount[:, columns],
            output[:, columns] if isinstance(output, Tensor) else Quantiles(output.values[:, columns], output.taus),
            self.action[:, columns],
            self.rescale,
        )

    def bootstrap(self, values: Tensor) -> Tensor:
        """`returns + discount * values`; under value rescaling h, `h(returns + discount * h⁻¹(values))`."""
        returns, discount = self.returns, self.discount
        if values.dim() > returns.dim():
            returns, discount = returns.unsqueeze(-1), discount.unsqueeze(-1)
        if not self.rescale:
            return returns + discount * values
        return value_rescale(returns + discount * value_unscale(values))


def q_loss(
    head: QHead, output: Tensor | Quantiles, action: Tensor, target: Target, huber: bool
) -> tuple[Tensor, Tensor]:
    """`(loss [L, N], td_error [L, N])` of what the head said of `action [L, N]`; the error has no gradient.

    Expected values: squared or Huber error (Mnih et al. 2015). Quantiles: quantile Huber loss (Dabney et al. 2018).
    C51: cross-entropy to the projected distribution (Bellemare et al. 2017), which is also its priority (Rainbow:
    Hessel et al. 2018).
    """
    if isinstance(output, Quantiles):
        assert isinstance(target.output, Quantiles)
        predicted = chosen(output.values, action)  # [L, N, K]
        goal = target.bootstrap(chosen(target.output.values, target.action)).detach()
        taus = output.taus.expand_as(predicted)
        loss = quantile_huber_loss(predicted.flatten(0, 1), goal.flatten(0, 1), taus.flatten(0, 1)).view(action.shape)
        return loss, (goal.mean(-1) - predicted.mean(-1)).detach()
    assert isinstance(target.output, Tensor)
    predicted, bootstrap = chosen(output, action), chosen(target.output, target.action)
    if isinstance(head, CategoricalQHead):
        projected = categorical_projection(
            bootstrap.exp().flatten(0, 1), target.returns.flatten(), target.discount.flatten(), head.support
        ).view_as(predicted)
        loss = -(projected * predicted).sum(-1)
        return loss, loss.detach()
    goal = target.bootstrap(bootstrap).detach()
    loss = (F.smooth_l1_loss if huber else F.mse_loss)(predicted, goal, reduction="none")
    return loss, (goal - predicted).detach()


def chosen(output: Tensor, action: Tensor) -> Tensor:
    """What `output [L, N, A]` or `[L, N, A, …]` says of `action [L, N]`."""
    if output.dim() == action.dim() + 1:
        return output.gather(-1, action.unsqueeze(-1)).squeeze(-1)
    index = action[..., None, None].expand(*action.shape, 1, output.shape[-1])
    return output.gather(-2, index).squeeze(-2)


def rows_at(x: Tensor, index: Tensor) -> Tensor:
    """Row `index [L, N]` of each column of `x [W, N, …]`."""
    if x.shape[0] == 1:  # there is only one row to bootstrap from
        return x
    shape = (*index.shape, *x.shape[2:])
    return x.gather(0, index.view(*index.shape, *[1] * (x.dim() - 2)).expand(shape))



