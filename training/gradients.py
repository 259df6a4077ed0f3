"""Gradients that are not finite: replaced before the optimizer sees them, and counted."""

from __future__ import annotations

from collections.abc import Iterable

import torch

NONFINITE_LIMIT = 1e5
"""Infinite gradients are replaced by this value (docs/compatibility.md)."""


@torch.no_grad()
def remove_nonfinite(parameters: Iterable[torch.nn.Parameter]) -> int | torch.Tensor:
    """Replace NaN in gradients by 0 and infinities by +-`NONFINITE_LIMIT`; return how many there were.

    On a GPU the number is a tensor, and the host does not wait for it.
    """
    parameters = [parameter for parameter in parameters if parameter.grad is not None]
    if not parameters:
        return 0
    if parameters[0].device.type != "cpu":
        return _remove_nonfinite_unread(parameters)
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norms = torch.stack(torch._foreach_norm(gradients))
    if norms.isfinite().all():  # the usual case: a single pass over memory
        return 0
    count = int(sum((~gradient.isfinite()).sum() for gradient in gradients))
    for gradient in gradients:
        torch.nan_to_num(gradient, nan=0.0, posinf=NONFINITE_LIMIT, neginf=-NONFINITE_LIMIT, out=gradient)
    return count


def _remove_nonfinite_unread(parameters: list[torch.nn.Parameter]) -> torch.Tensor:
    """The same without reading values on the host: all gradients as one flat tensor, in five kernel launches."""
    flat = torch.cat([parameter.grad.flatten() for parameter in parameters if parameter.grad is not None])
    clean = flat.nan_to_num(nan=0.0, posinf=NONFINITE_LIMIT, neginf=-NONFINITE_LIMIT)
    for parameter, part in zip(parameters, clean.split([each.numel() for each in parameters]), strict=True):
        gradient = part.view_as(parameter)
        if parameter.is_contiguous() and parameter.dtype == gradient.dtype:
            parameter.grad = gradient
        elif parameter.grad is not None:
            parameter.grad.copy_(gradient)
    return (flat != clean).sum()  # NaN differs from every number
