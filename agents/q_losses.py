"""The bootstrap goal of each kind of Q-head, and the loss of what the head says against it, row by row.

L rows in time, N samples, A actions, Z atoms, K quantiles. Every goal is `returns + discount * bootstrap`.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from triathlon.agents.returns import categorical_projection, quantile_huber_loss, value_rescale, value_unscale
from triathlon.networks.heads import CategoricalQHead, QHead, Quantiles


def q_goal(
    head: QHead, output: Tensor | Quantiles, action: Tensor, returns: Tensor, discount: Tensor, rescale: bool = False
) -> Tensor:
    """What the trained rows are pulled to: values `[L, N]`, quantiles `[L, N, K]` or probabilities `[L, N, Z]`.

    `output` is what the target network's head says of the rows to bootstrap from, `action [L, N]` the action chosen
    there, `returns` and `discount` are `[L, N]`. C51 projects the moved distribution on its atoms (Bellemare et al.
    2017). With `rescale` the goal is `h(returns + discount * h⁻¹(bootstrap))` (Pohlen et al. 2018).
    """
    if isinstance(head, CategoricalQHead):
        assert isinstance(output, Tensor)
        probs = chosen(output, action).exp()
        return categorical_projection(probs.flatten(0, 1), returns.flatten(), discount.flatten(), head.support).view_as(
            probs
        )
    bootstrap = chosen(output.values if isinstance(output, Quantiles) else output, action)
    if bootstrap.dim() > returns.dim():
        returns, discount = returns.unsqueeze(-1), discount.unsqueeze(-1)
    if rescale:
        return value_rescale(returns + discount * value_unscale(bootstrap))
    return returns + discount * bootstrap


def q_loss(head: QHead, output: Tensor | Quantiles, action: Tensor, goal: Tensor, huber: bool) -> tuple[Tensor, Tensor]:
    """`(loss [L, N], td_error [L, N])` of what the head said of `action [L, N]`; the error has no gradient.

    Expected values: squared or Huber error (Mnih et al. 2015). Quantiles: quantile Huber loss (Dabney et al. 2018).
    C51: cross-entropy to the goal's distribution (Bellemare et al. 2017), which is also its priority (Rainbow: Hessel
    et al. 2018).
    """
    if isinstance(output, Quantiles):
        predicted = chosen(output.values, action)  # [L, N, K]
        taus = output.taus.expand_as(predicted)
        loss = quantile_huber_loss(predicted.flatten(0, 1), goal.flatten(0, 1), taus.flatten(0, 1)).view(action.shape)
        return loss, (goal.mean(-1) - predicted.mean(-1)).detach()
    predicted = chosen(output, action)
    if isinstance(head, CategoricalQHead):
        loss = -(goal * predicted).sum(-1)
        return loss, loss.detach()
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
