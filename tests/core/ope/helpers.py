"""A problem small enough to enumerate: every log of a few rows, and its probability."""

import itertools

import torch

from armfold.core import random
from armfold.core.types import Logged

CONTEXT = torch.tensor([0.3, 0.7], dtype=torch.float64)  # probability of context 0 and 1
LOGGING = torch.tensor([[0.2, 0.5, 0.3], [0.6, 0.1, 0.3]], dtype=torch.float64)  # of each action, in each context
TARGET = torch.tensor([[0.7, 0.1, 0.2], [0.0, 0.5, 0.5]], dtype=torch.float64)
MEANS = torch.tensor([[0.9, 0.2, 0.5], [0.1, 0.8, 0.4]], dtype=torch.float64)  # of Bernoulli rewards
VALUE = (CONTEXT.unsqueeze(-1) * TARGET * MEANS).sum()
WRONG = torch.tensor([[0.1, 0.9, 0.3], [0.5, 0.2, 0.6]], dtype=torch.float64)  # a model, or logging probabilities

OUTCOMES = torch.tensor(list(itertools.product(range(2), range(3), range(2))))  # context, action, reward of a row


def every_log(rows, propensities=LOGGING):
    """Every log of that many rows as a lane: its contexts [L, n], the log, and its probability [L]."""
    at = torch.cartesian_prod(*[torch.arange(len(OUTCOMES))] * rows).reshape(-1, rows)
    context, action, reward = OUTCOMES[at].unbind(-1)
    mean = MEANS[context, action]
    chance = CONTEXT[context] * LOGGING[context, action] * torch.where(reward == 1, mean, 1 - mean)
    logged = Logged(None, action, reward.double(), propensities[context, action])
    return context, logged, chance.prod(-1)


def sampled(batch, rows, seed=0, *, arms=3, features=2, dtype=torch.float32):
    """A random log of contexts, its target and a model, all of them arbitrary."""
    keys = random.split(random.key(seed), 6 * torch.Size(batch).numel()).reshape(6, *batch, 2)
    obs = random.normal(keys[0], (rows, arms, features), dtype=dtype)
    logging = torch.softmax(random.normal(keys[1], (rows, arms), dtype=dtype), -1)
    action = random.randint(keys[2], (rows,), high=arms)
    reward = random.uniform(keys[3], (rows,), dtype=dtype)
    propensity = logging.gather(-1, action.unsqueeze(-1)).squeeze(-1)
    target = torch.softmax(2 * random.normal(keys[4], (rows, arms), dtype=dtype), -1)
    return Logged(obs, action, reward, propensity), target, random.uniform(keys[5], (rows, arms), dtype=dtype)
