"""Bandits in eager torch, to race against: [N, K] tensors, torch's own random numbers and in-place updates."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

_TINY = 1e-7


class Counts(NamedTuple):
    """Plain statistics of each arm, changed in place."""

    pulls: Tensor  # [N, K] float32
    wins: Tensor  # [N, K] float32, sum of rewards


Select = Callable[[Counts, int, torch.Generator], Tensor]  # state, step about to be taken, rng -> action [N]


def random_argmax(index: Tensor, rng: torch.Generator) -> Tensor:
    """Position of the largest index in each lane, ties at random."""
    tied = index == index.amax(-1, keepdim=True)
    return torch.where(tied, torch.rand(index.shape, generator=rng, device=index.device), -1).max(-1).indices


def ucb1(state: Counts, step: int, rng: torch.Generator) -> Tensor:
    """UCB1 with sqrt(2 ln t / n)."""
    plays = state.pulls.clamp(min=1)
    index = state.wins / plays + torch.sqrt(2 * math.log(max(step - 1, 1)) / plays)
    return random_argmax(torch.where(state.pulls == 0, torch.inf, index), rng)


def kl_upper(mean: Tensor, budget: Tensor) -> Tensor:
    """Largest u with KL(mean, u) <= budget, as in `peers_jax.kl_upper`."""
    p = mean.clamp(_TINY, 1 - _TINY)
    q = 1 - p
    entropy = p * torch.log(p)
    goal = budget - entropy - q * torch.log(q)
    u = torch.minimum(p + torch.sqrt(budget / 2), 1 - q * torch.exp((entropy - budget) / q)).clamp(max=1 - _TINY)
    for _ in range(4):
        excess = -p * torch.log(u) - q * torch.log(1 - u) - goal
        u = (u - excess * u * (1 - u) / (u - p).clamp(min=_TINY)).clamp(max=1 - _TINY)
    return u


def kl_ucb(state: Counts, step: int, rng: torch.Generator) -> Tensor:
    """KL-UCB, c = 3, by Newton."""
    plays = state.pulls.clamp(min=1)
    budget = (math.log(step) + 3 * math.log(max(1.0, math.log(step)))) / plays
    return random_argmax(torch.where(state.pulls == 0, torch.inf, kl_upper(state.wins / plays, budget)), rng)


def beta_ts(state: Counts, step: int, rng: torch.Generator) -> Tensor:
    """Thompson sampling by two gammas: measured 1.4 times faster than torch.distributions.Beta."""
    wins, losses = torch._standard_gamma(torch.stack((1 + state.wins, 1 + state.pulls - state.wins)), generator=rng)
    drawn: Tensor = wins / (wins + losses)
    return drawn.max(-1).indices


SELECT: dict[str, Select] = {"ucb1": ucb1, "kl_ucb": kl_ucb, "beta_ts": beta_ts}


def play(select: Select, steps: int, *, lanes: int, arms: int, seed: int, device: str) -> np.ndarray:
    """Regret [N] on Bernoulli arms p ~ U(0, 1)."""
    rng = torch.Generator(device).manual_seed(seed)
    p = torch.rand((lanes, arms), generator=rng, device=device)
    state = Counts(torch.zeros_like(p), torch.zeros_like(p))
    best, one = p.amax(-1, keepdim=True), torch.ones((lanes, 1), device=device)
    regret = torch.zeros_like(best)
    for step in range(1, steps + 1):
        action = select(state, step, rng).unsqueeze(-1)
        mean = p.gather(-1, action)
        reward = (torch.rand(mean.shape, generator=rng, device=device) < mean).to(p.dtype)
        state.pulls.scatter_add_(-1, action, one)
        state.wins.scatter_add_(-1, action, reward)
        regret += best - mean
    return regret.squeeze(-1).cpu().numpy()


def player(
    algorithm: str, *, lanes: int, arms: int, features: int, seed: int, device: str
) -> Callable[[int], np.ndarray]:
    """A function that plays so many steps of `algorithm` and returns the regret [N]. `features` is not used."""
    return lambda steps: play(SELECT[algorithm], steps, lanes=lanes, arms=arms, seed=seed, device=device)
