"""What pixel environments have in common: N machines, stacks of their screens, a task, episodes that start again."""

import math
from collections.abc import Callable, Sequence
from typing import Any, TypedDict, get_args

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from armfold.core.check import check_key, check_shape, check_size
from armfold.core.pixels import InfoMode, step_info
from armfold.core.pixels.frames import check_frame
from armfold.shell.buffers import write
from armfold.shell.check import Integers, check_state, lane_integers
from armfold.shell.choose import suggest
from armfold.shell.compiled import Mode, bind, choose, tensor_tunables
from armfold.shell.envs.backend import Backend
from armfold.shell.envs.pixel_steps import (
    FRAME,
    Ends,
    Given,
    Info,
    Lanes,
    Machine,
    Outputs,
    Snapshot,
    advance,
    halve,
    restart,
    show,
    show_starts,
    write_choice,
)
from armfold.shell.envs.pixel_tasks import Task
from armfold.shell.envs.reset_cache import ResetCache
from armfold.shell.envs.vector import check_ended


class Knobs(TypedDict, total=False):
    """Options that every pixel environment takes, as `TaskEnv` says."""

    stack_k: int
    info_mode: InfoMode
    skip_reset_if_empty: bool
    starts: Any
    final_obs: bool
    autoreset: bool
    compile: Mode


class TaskEnv:
    """N lanes of a machine with a screen, which see its last K frames and play for a `Task`.

    Lanes that end start again within the same step (`autoreset_mode`): their observation is the first of the new
    episode, and `info.final_obs` has the last of the old one. Observations and outcomes lie in two sets of buffers
    that take turns: what a step returns is valid until the second step after it. A compiled step allocates nothing, but
    with info_mode "stats", and the host waits for no step, but with skip_reset_if_empty on CUDA.

    Episode e of a lane, from 0 on, starts from snapshot `choose_start(fold_in(key, e), starts=S)`.
    """

    autoreset_mode = "SameStep"

    def __init__(
        self,
        backend: Backend,
        task: Task,
        *,
        stack_k: int = 4,
        info_mode: InfoMode = "full",
        skip_reset_if_empty: bool = False,
        starts: Any = None,
        final_obs: bool = True,
        autoreset: bool = True,
        compile: Mode = "auto",
    ) -> None:
        """All lanes of `backend`, which is the environment's from now on, and draws screens.

        stack_k: K, frames in an observation. info_mode: "full" for every lane's distance and reset, "stats" for
        statistics of them, "none". skip_reset_if_empty: the host asks whether any lane has ended before it has any
        restored; what comes out is the same. starts: snapshots to start from, a State with S lanes, a file of
        `save_state`, or a list of these; None: power-on. final_obs: whether it is kept, in as much memory as
        observations take. autoreset: False starts nothing again: until `restart`, lanes that ended stay terminated or
        truncated and are paid 0, while their machines go on. compile: "off", which allocates and is slower; "on"; or
        "auto": "on" where a compiler is found, and a warning where none is. Compiled, the first reset and the first
        step take 5 to 20 seconds together.
        Raises ValueError for what cannot be, TypeError for no machines.
        """
        if not hasattr(backend, "draw"):
            got = type(backend).__name__
            raise TypeError(f"backend must be machines, as open_backend or make_pixels makes them of a ROM, got {got}")
        check_size("stack_k", stack_k)
        if info_mode not in get_args(InfoMode):
            raise suggest("info_mode", str(info_mode), get_args(InfoMode))
        if backend.draw not in ("half", "full"):
            raise ValueError(
                f"draw must be 'half' or 'full' for a backend whose screens are seen, got {backend.draw!r}"
            )
        self.backend, self.device, self.num_envs = backend, backend.device, backend.num_envs
        self.stack_k, self.info_mode, self.autoreset = stack_k, info_mode, autoreset
        self.cache = ResetCache(backend, starts, skip_if_empty=skip_reset_if_empty)
        self.task: Task = tensor_tunables(task, self.device)
        self._compile: Mode = compile
        self._closed = False
        self._make()
        self._restart = self._bind(restart, self.task, self._lanes, self._machine, self._ends, self.cache.count)
        self.fill([self._buffers(final_obs) for _ in range(2)])

    def _make(self) -> None:
        """Buffers of what lanes carry."""
        lanes, device = self.num_envs, self.device
        count, no = (torch.zeros(lanes, dtype=dtype, device=device) for dtype in (torch.int64, torch.bool))
        frame = torch.zeros(lanes, *FRAME, dtype=torch.uint8, device=device)
        memory = torch.zeros(lanes, 0, dtype=torch.uint8, device=device)
        if self.task.watch is not None:
            memory = self.backend.read_memory(*self.task.watch)
        self._machine = Machine(frame, no, memory)
        self._ends = Ends(no.clone(), no.any(), count)
        rng = torch.zeros(lanes, 2, dtype=torch.int64, device=device)
        self._lanes = Lanes(rng, count.clone(), _copy(self.task.init(frame, memory)), no.clone(), no.clone())
        self._halve = self._bind(halve, frame, self.backend.screen) if self.backend.draw == "full" else None

    def _bind(self, function: Callable[..., None], *arguments: Any) -> Callable[[], object]:
        """`function` of these very objects, compiled where that is wanted."""
        chosen, self.compiled = choose(function, self._compile, device=self.device, calls=math.inf)
        return bind(chosen, *arguments)

    def fill(self, outputs: Sequence[Outputs]) -> None:
        """Write what steps return into these buffers, one set after the other, from the next `reset` on."""
        for one in outputs:
            check_shape("outputs.obs", one.obs, (self.num_envs, self.stack_k, *FRAME))
        self._outputs, self._turn, self._begun = outputs, 0, False
        self._spare = torch.zeros_like(outputs[0].obs) if len(outputs) == 1 else None
        machine, ends = self._machine, self._ends
        self._advances, self._shows, self._firsts = [], [], []
        for i, x in enumerate(outputs):
            given = Given(x.reward, x.terminated, x.truncated, x.info.faults, x.info.metrics)
            seen = outputs[i - 1].obs if self._spare is None else self._spare
            self._shows.append(self._bind(show, x.obs, seen, machine.frame))
            self._advances.append(self._bind(advance, self.task, self._lanes, machine, given, ends, self.info_mode))
            self._firsts.append(self._bind(show_starts, x.obs, x.info.final_obs, machine.frame, ends.mask))

    def _buffers(self, final_obs: bool) -> Outputs:
        """A set of outputs."""
        obs, final = (
            torch.zeros(self.num_envs, self.stack_k, *FRAME, dtype=torch.uint8, device=self.device) for _ in range(2)
        )
        reward = torch.zeros(self.num_envs, device=self.device)
        terminated, truncated = torch.zeros(2, self.num_envs, dtype=torch.bool, device=self.device)
        return Outputs(obs, reward, terminated, truncated, self.make_info(final if final_obs else None))

    def make_info(self, final_obs: Tensor | None = None) -> Info:
        """Buffers for what a step tells beside its outcome, with this one for the last observations of episodes."""
        no = torch.zeros(self.num_envs, dtype=torch.bool, device=self.device)
        return Info(final_obs, None, no, _copy(step_info(self.info_mode, self._dist(), no, no)))

    def reset(self, keys: Tensor) -> tuple[Tensor, Info]:
        """First episodes for lanes with the keys [N, 2]: what each lane sees, and `Info`. Raises ShapeError.

        `random.split(random.key(seed), N)` gives the lanes that a seed gives in every face.
        """
        self._require_open()
        check_key(keys, (self.num_envs,))
        self._lanes.rng.copy_(keys)
        self._lanes.episode.fill_(-1)
        write_choice(self._ends, self._lanes, self.cache.count)
        self._begun = True
        return self.restart(torch.ones_like(self._ends.mask))

    def restart(self, ended: Tensor) -> tuple[Tensor, Info]:
        """New episodes for the lanes of ended, bool [N]: what each lane sees, and `Info`. Raises ShapeError."""
        self._require_reset()
        check_ended(ended, self.num_envs)
        seen, outputs = self._take_turn()
        with torch.no_grad():
            outputs.obs.copy_(seen)
            self._ends.mask.copy_(ended)
            self.cache.restore(self._ends.mask, self._ends.choice)
            self._begin_again()
            return self._show(outputs)

    def _take_turn(self) -> tuple[Tensor, Outputs]:
        """What lanes saw last, and the buffers to be filled now: what the last step returned stays valid."""
        seen = self._outputs[self._turn].obs
        if self._spare is not None:
            seen = self._spare.copy_(seen)
        self._turn = (self._turn + 1) % len(self._outputs)
        return seen, self._outputs[self._turn]

    def _show(self, outputs: Outputs) -> tuple[Tensor, Info]:
        """What lanes see outside of a step: nothing was paid, and nobody came to an end."""
        no = torch.zeros_like(self._ends.mask)
        for flags in (outputs.reward, outputs.terminated, outputs.truncated, outputs.info.faults):
            flags.zero_()
        write(outputs.info.metrics, step_info(self.info_mode, self._dist(), no, no, reset_mask=self._ends.mask))
        return outputs.obs, outputs.info

    def _dist(self) -> Tensor | None:
        """How far the frames are from the goal."""
        machine = self._machine
        dist: Tensor | None = self.task.step(self._lanes.task, machine.frame, machine.memory)[1].dist
        return dist

    def step(self, actions: Integers) -> tuple[Tensor, Tensor, Tensor, Tensor, Info]:
        """Take `actions` [N] of any integer dtype: observation, reward, terminated, truncated, `Info`.

        Raises ShapeError for another shape or dtype, and on the CPU ValueError for values outside of the backend's
        actions. On CUDA, where looking would mean waiting, they press nothing.
        """
        self._require_reset()
        self.backend.step(lane_integers("actions", actions, self.num_envs))
        (_, outputs), ends = self._take_turn(), self._ends
        with torch.no_grad():
            self._read()
            self._shows[self._turn]()
            self._advances[self._turn]()
            if self.autoreset and self.cache.restore(ends.mask, ends.choice, ends.any):
                self._begin_again()
        return outputs.obs, outputs.reward, outputs.terminated, outputs.truncated, outputs.info

    def _read(self) -> None:
        """What the backend shows now, into buffers."""
        if self._halve is not None:
            self._halve()
        else:
            self._machine.frame.copy_(self.backend.screen)
        self._machine.faults.copy_(self.backend.faults)
        if self.task.watch is not None:
            self.backend.read_memory(*self.task.watch, out=self._machine.memory)

    def _begin_again(self) -> None:
        """New episodes for the lanes whose machines have just been restored."""
        self._read()
        self._firsts[self._turn]()
        self._restart()

    def _require_open(self) -> None:
        if self._closed:
            raise ValueError("the environment is closed: make another one")

    def _require_reset(self) -> None:
        self._require_open()
        if not self._begun:
            raise ValueError("the environment has not been reset: call reset(keys) first")

    @property
    def pixels(self) -> Tensor:
        """The newest frames, uint8 [N, 72, 80], as the backend drew them; the next step changes them."""
        return self._machine.frame

    @property
    def state(self) -> Any:
        """What the task carries, [N, ...]: a `GoalState` or a `MemoryState`; the next step changes it."""
        self._require_reset()
        return self._lanes.task

    def snapshot(self) -> Snapshot:
        """A copy of everything, for `restore`: tensors, which any checkpoint can hold."""
        self._require_reset()
        return Snapshot(self.backend.snapshot(), self._outputs[self._turn].obs.clone(), _copy(self._lanes))

    def restore(self, snapshot: Snapshot) -> tuple[Tensor, Info]:
        """Go on from what `snapshot` gave: what each lane sees, and `Info`. Raises TypeError for what is none,
        ShapeError for another N, K, task or machine, and then nothing has changed."""
        self._require_open()
        if not isinstance(snapshot, Snapshot):
            raise TypeError(f"snapshot must be a Snapshot, got {type(snapshot).__name__}")
        check_frame("snapshot.obs", snapshot.obs, self._outputs[0].obs.shape)
        check_state("snapshot.lanes", snapshot.lanes, self._lanes, self.num_envs)
        self.backend.restore(snapshot.machine)
        self._begun = True
        _, outputs = self._take_turn()
        with torch.no_grad():
            outputs.obs.copy_(snapshot.obs)
            write(self._lanes, snapshot.lanes)
            write_choice(self._ends, self._lanes, self.cache.count)
            self._ends.mask.zero_()
            self._read()
            return self._show(outputs)

    def close(self) -> None:
        """Close the backend too. It is over then."""
        self._closed = True
        self.backend.close()


def _copy(tree: Any) -> Any:
    return pytree.tree_map(lambda x: x.clone() if isinstance(x, Tensor) else x, tree)
