"""The likelihood of discrete-time hazards, for training.

The model and its source stand in medray.calibration.hazards.

Shapes: B items, K intervals, C causes, T = K + 1 edges.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def negative_log_likelihood(
    logits_BKC: Tensor, days_B: Tensor, cause_B: Tensor, edges_T: Tensor
) -> Tensor:
    """Of every item (B,); 0 where its cause or time is NaN.

    An item counts as surviving every interval it lived through; of the one in which it is lost it
    lived a share, and its hazard counts with that share, as if it were constant inside. Causes are
    numbered from 1; 0 is lost to follow-up. What lies past the last edge has survived them all.
    """
    logits_BKC = logits_BKC.float()
    known_B = torch.isfinite(days_B) & torch.isfinite(cause_B)
    days_B = torch.where(known_B, days_B, 0.0)
    last = edges_T[-1]
    cause_B = torch.where(known_B & (days_B <= last), cause_B, 0.0).long()
    intervals = logits_BKC.shape[1]
    place_B = (torch.searchsorted(edges_T, days_B.contiguous()) - 1).clamp(0, intervals - 1)
    with_none = functional.pad(logits_BKC, (1, 0))  # logit 0: nothing happens
    log_BKD = torch.log_softmax(with_none, dim=2)
    width_K = edges_T[1:] - edges_T[:-1]
    lived_BK = ((days_B[:, None] - edges_T[:-1]) / width_K).clamp(0, 1)
    number_K = torch.arange(intervals, device=logits_BKC.device)
    here_BK = number_K == place_B[:, None]
    event_B = cause_B > 0
    lived_BK = torch.where(here_BK & event_B[:, None], 0.0, lived_BK)
    lived_BK = torch.where(number_K > place_B[:, None], 0.0, lived_BK)
    survived_B = (lived_BK * log_BKD[..., 0]).sum(dim=1)
    rows = torch.arange(len(days_B), device=logits_BKC.device)
    met_B = torch.where(event_B, log_BKD[rows, place_B, cause_B], 0.0)
    return -(survived_B + met_B) * known_B


def log_odds_by(logits_BKC: Tensor, edges_days: Sequence[float], horizon_days: float) -> Tensor:
    """Log-odds (B,) that the first cause comes up to a horizon; smooth, for explanations.

    As the cumulative incidence of medray.calibration.hazards, linear between edges.
    """
    log_BKD = torch.log_softmax(functional.pad(logits_BKC, (1, 0)), dim=2)
    before_BK = functional.pad(log_BKD[..., 0].cumsum(dim=1)[:, :-1], (1, 0))
    step_BK = torch.exp(before_BK + log_BKD[..., 1])
    edges_T = torch.tensor(edges_days, dtype=step_BK.dtype, device=step_BK.device)
    share_K = ((horizon_days - edges_T[:-1]) / (edges_T[1:] - edges_T[:-1])).clamp(0, 1)
    risk_B = (step_BK * share_K).sum(dim=1).clamp(1e-7, 1 - 1e-7)
    return torch.logit(risk_B)
