"""The torch-native vector face: N lanes of an environment stepped at once, in buffers that stay where they are."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from armfold.core import episodes
from armfold.core.check import ShapeError, check_key, check_shape, check_size
from armfold.core.episodes import Lanes, Totals
from armfold.core.types import BanditEnv, Env
from armfold.shell.buffers import LANES, Layout, write
from armfold.shell.check import Integers, lane_integers
from armfold.shell.compiled import Mode, bind, choose, tensor_tunables
from armfold.shell.device import find_device


class Info(NamedTuple):
    """What a step tells beside its outcome."""

    final_obs: Tensor | None  # [N, ...] what a lane that has just ended saw last; elsewhere nothing that means anything
    legal: Tensor | None  # [N, A] bool, actions that may be taken now; None: all of them
    regret: Tensor  # [N] float, reward unit: of the action just taken, in expectation; 0 for an Env, which knows none


class Outputs(NamedTuple):
    """The buffers that a step fills."""

    obs: Tensor | None  # [N, ...] what each lane sees now; None: no context
    reward: Tensor  # [N] float32, reward unit
    terminated: Tensor  # [N] bool
    truncated: Tensor  # [N] bool
    info: Info


def advance(env: BanditEnv, lanes: Lanes, outputs: Outputs, action: Tensor) -> None:
    """One step of lanes that do not end, written into `lanes` and `outputs`."""
    moved, outcome = episodes.step(env, lanes, action)
    _write(outputs.obs, env.observe(moved.env))
    _write(outputs.reward, outcome.reward)
    _write(outputs.info.regret, outcome.regret)
    write(lanes, moved)


def advance_and_restart(env: Env, lanes: Lanes, outputs: Outputs, action: Tensor, max_steps: int | None) -> None:
    """One step of lanes of which any may end, and then starts again, written into `lanes` and `outputs`."""
    moved, outcome = episodes.step(env, lanes, action, max_steps=max_steps)
    restarted = episodes.restart(env, moved, outcome.terminated | outcome.truncated)
    _write(outputs.info.final_obs, env.observe(moved.env))
    _write(outputs.obs, env.observe(restarted.env))
    _write(outputs.info.legal, env.legal(restarted.env))
    for name in ("reward", "terminated", "truncated"):
        _write(getattr(outputs, name), getattr(outcome, name))
    write(lanes, restarted)


def _write(buffer: Tensor | None, value: Tensor | None) -> None:
    """The first lanes of `value` into `buffer`: lanes beyond only fill the last vector."""
    if buffer is not None and value is not None:
        buffer.copy_(value[: buffer.shape[0]])


class VectorEnv:
    """N lanes of an environment on a device.

    Lanes that end start again within the same step (`autoreset_mode`): their observation is the first of the new
    episode, and `info.final_obs` has the last of the old one. Observations and outcomes lie in two sets of buffers
    that take turns: what a step returns is valid until the second step after it. Nothing else is allocated by a
    compiled step.
    """

    autoreset_mode = "SameStep"

    def __init__(
        self,
        env: BanditEnv | Env | Callable[[Tensor], BanditEnv | Env],
        lanes: int,
        *,
        max_steps: int | None = None,
        device: str | torch.device = "cpu",
        compile: Mode = "off",
        outputs: Sequence[Outputs] | None = None,
    ) -> None:
        """`lanes` lanes of `env`, which `reset` brings to life. Its tunables are the same in all lanes; to let them
        differ, give a function of lanes (int64 [n]) that makes the environment of these.

        max_steps: steps after which an episode is cut off; None: never. compile: "on" compiles the step when it is
        first taken (5 to 20 seconds), "off" and "auto", which cannot know how many steps will come, do not.
        outputs: buffers to fill in turn, instead of two sets of its own. Raises ValueError for what cannot be.
        """
        check_size("lanes", lanes)
        if max_steps is not None:
            check_size("max_steps", max_steps)
        self.device = find_device(device)
        self.num_envs, self.max_steps = lanes, max_steps
        self._filled = math.ceil(lanes / LANES) * LANES  # every lane goes through the same vector code
        if callable(env) and not isinstance(env, BanditEnv | Env):
            env = env(torch.arange(self._filled, device=self.device).clamp(max=lanes - 1))
        if not isinstance(env, BanditEnv | Env):
            raise ValueError(f"env must be a BanditEnv or an Env, or make one, got {type(env).__name__}")
        self.env = tensor_tunables(env, self.device)
        function = advance_and_restart if isinstance(env, Env) else advance
        self._function, self.compiled = choose(function, compile, device=self.device, calls=0)
        self._outputs: Sequence[Outputs] = outputs or ()
        self._turn = 0
        self._steps: list[Callable[[], object]] = []

    def reset(self, keys: Tensor) -> tuple[Tensor | None, Info]:
        """First episodes for runs with the keys [N, 2]: what each lane sees, and `Info`.

        `random.split(random.key(seed), N)` gives the lanes of `simulate(seed=seed)`.
        """
        check_key(keys, (self.num_envs,))
        keys = torch.cat((keys, keys[-1:].expand(self._filled - self.num_envs, 2))).to(self.device)
        with torch.no_grad():
            self._start(episodes.init(self.env, keys))
        return self._show()

    def restart(self, ended: Tensor) -> tuple[Tensor | None, Info]:
        """New episodes for the lanes of ended, bool [N]: what each lane sees, and `Info`. Raises ShapeError."""
        self._require_reset()
        check_ended(ended, self.num_envs)
        chosen = torch.ones_like(self._lanes.time, dtype=torch.bool)
        chosen[: self.num_envs].copy_(ended)
        with torch.no_grad():
            self._start(episodes.restart(self.env, self._lanes, chosen))
        return self._show()

    def _start(self, lanes: Lanes) -> None:
        """Take over `lanes`; the first time, make the buffers."""
        if not self._steps:
            self._make(lanes)
        write(self._lanes, lanes)
        self._turn = (self._turn + 1) % len(self._steps)  # what the last step returned stays valid
        self._left = self._steps_left()

    def _make(self, lanes: Lanes) -> None:
        layout = Layout(all(leaf.ndim <= 2 for leaf in pytree.tree_leaves(lanes)), len(lanes.time))
        self._lanes: Lanes = pytree.tree_map(layout.lay, lanes)
        self._action = torch.zeros_like(self._lanes.time)
        self._outputs = self._outputs or [self._buffers(lanes) for _ in range(2)]
        limit = (self.max_steps,) if isinstance(self.env, Env) else ()
        self._steps = [
            bind(self._function, self.env, self._lanes, outputs, self._action, *limit) for outputs in self._outputs
        ]

    def _buffers(self, lanes: Lanes) -> Outputs:
        obs = self.env.observe(lanes.env)
        legal = self.env.legal(lanes.env) if isinstance(self.env, Env) else None
        seen, final, legal = (None if x is None else _empty(x[: self.num_envs]) for x in (obs, obs, legal))
        reward, regret = (torch.zeros(self.num_envs, device=self.device) for _ in range(2))
        terminated, truncated = (torch.zeros(self.num_envs, dtype=torch.bool, device=self.device) for _ in range(2))
        return Outputs(seen, reward, terminated, truncated, Info(final, legal, regret))

    def _steps_left(self) -> float:
        """Steps until a lane of a BanditEnv may end; it does so by `max_steps` alone."""
        if isinstance(self.env, Env) or self.max_steps is None:
            return math.inf
        taken = self._lanes.time - self._lanes.begun
        return self.max_steps - int(taken.max())

    def _require_reset(self) -> None:
        if not self._steps:
            raise ValueError("the environment has not been reset: call reset(keys) first")

    def _show(self) -> tuple[Tensor | None, Info]:
        outputs = self._outputs[self._turn]
        outputs.info.regret.zero_()
        _write(outputs.obs, self.env.observe(self._lanes.env))
        if isinstance(self.env, Env):
            _write(outputs.info.legal, self.env.legal(self._lanes.env))
        return outputs.obs, outputs.info

    def step(self, actions: Integers) -> tuple[Tensor | None, Tensor, Tensor, Tensor, Info]:
        """Take `actions` [N] of any integer dtype: observation, reward, terminated, truncated, `Info`.

        Raises ShapeError for another shape or dtype. Values are not looked at, which would wait for the device: an
        action that is no arm of a bandit is paid NaN.
        """
        self._require_reset()
        actions = lane_integers("actions", actions, self.num_envs)
        self._action[: self.num_envs].copy_(actions)
        self._turn = (self._turn + 1) % len(self._steps)
        with torch.no_grad():
            self._steps[self._turn]()
            self._left -= 1
            outputs = self._outputs[self._turn]
            if self._left <= 0:
                self._restart(outputs, self.max_steps or 0)
            elif self.max_steps is not None and isinstance(self.env, BanditEnv):
                outputs.truncated.fill_(False)
        return outputs.obs, outputs.reward, outputs.terminated, outputs.truncated, outputs.info

    def _restart(self, outputs: Outputs, max_steps: int) -> None:
        """Cut off the lanes of a BanditEnv that have taken `max_steps`, and start them again."""
        ended = self._lanes.time - self._lanes.begun >= max_steps
        _write(outputs.truncated, ended)
        _write(outputs.info.final_obs, self.env.observe(self._lanes.env))
        write(self._lanes, episodes.restart(self.env, self._lanes, ended))
        _write(outputs.obs, self.env.observe(self._lanes.env))
        self._left = self._steps_left()

    @property
    def totals(self) -> Totals:
        """Sums of each lane since `reset`, [N]; the next step changes them."""
        self._require_reset()
        return Totals(*(x[: self.num_envs] for x in self._lanes.totals))

    @property
    def state(self) -> Any:
        """The environment's state, [N, ...]; the next step changes it."""
        self._require_reset()
        return pytree.tree_map(lambda x: x[: self.num_envs], self._lanes.env)

    def means(self) -> Tensor:
        """Expected rewards of the arms of a BanditEnv now, [N, K]. Raises ValueError for an Env, which knows none."""
        self._require_reset()
        if isinstance(self.env, Env):
            raise ValueError("means are of a BanditEnv; this environment is an Env")
        with torch.no_grad():  # of all lanes: the last bits of a few would depend on how few they are
            means: Tensor = self.env.means(self._lanes.env)[: self.num_envs]
        return means

    def snapshot(self) -> Lanes:
        """A copy of everything that the lanes carry, for `restore`: tensors, which any checkpoint can hold."""
        self._require_reset()
        return pytree.tree_map(torch.clone, self._lanes)  # type: ignore[no-any-return]

    def restore(self, lanes: Lanes) -> tuple[Tensor | None, Info]:
        """Go on from what `snapshot` gave: what each lane sees, and `Info`. Raises ShapeError for another N."""
        check_shape("lanes.time", lanes.time, (self._filled,))
        with torch.no_grad():
            self._start(lanes)
        return self._show()

    def close(self) -> None:
        """Let go of the buffers. The environment can be reset again."""
        self._steps = []
        self.__dict__.pop("_lanes", None)


def check_ended(ended: Tensor, lanes: int) -> None:
    """Raise ShapeError unless `ended` is a tensor [lanes] of bools."""
    if not isinstance(ended, Tensor):
        raise ShapeError(f"ended must be a tensor, got {type(ended).__name__}")
    if ended.shape != (lanes,) or ended.dtype != torch.bool:
        raise ShapeError(f"ended must be bool of shape ({lanes},), got {ended.dtype} {tuple(ended.shape)}")


def _empty(x: Tensor) -> Tensor:
    return torch.zeros_like(x, memory_format=torch.contiguous_format)
