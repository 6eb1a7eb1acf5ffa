"""Initial weights with which a transformer tells the order of what it reads from its first step on.

An agent's transformer starts without any: it has millions of steps to learn how far back a row is.
"""

from __future__ import annotations

import torch
from torch import nn

from triathlon.networks.transformer import Transformer


def start_with_order(network: nn.Module) -> None:
    """Change the initial weights of every `Transformer` in a network; called without gradients.

    A row d rows before counts 2^(-2h) · d less to head h = 0, 1, …: some heads start with their neighbours, others see
    all rows alike, and content with place is told from content alone (Press, Smith & Lewis 2022, "Train Short, Test
    Long", §3). From 0, an optimiser whose steps are about as long as its learning rate would take hundreds of them.

    Where a layer adds to the stream without gates, what it adds is scaled by (2 · layers)^-½, so that the stream keeps
    its length through all of them (Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", §2.3).
    """
    for transformer in network.modules():
        if not isinstance(transformer, Transformer):
            continue
        for layer in transformer.layers:
            head, distance = (torch.arange(size, dtype=torch.float32) for size in layer.distance_bias.shape)
            layer.distance_bias.copy_(-torch.exp2(-2 * head).unsqueeze(1) * distance)
            if layer.gates is None:
                for part in (layer.out, layer.contract):
                    part.weight.mul_((2 * len(transformer.layers)) ** -0.5)


__all__ = ["start_with_order"]
