"""Pixel environments in PufferLib: lanes as the agents of a native environment, alone or one to a worker.

Seeds are those of `pufferlib.py`: lane j of environment i has the key of lane i N + j, however many workers there are.
"""

import multiprocessing
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from pufferlib import PufferEnv

from armfold.core.check import check_size
from armfold.shell.device import cpu_threads
from armfold.shell.envs import workers
from armfold.shell.envs.pixel_env import TaskEnv
from armfold.shell.envs.pixel_steps import Outputs
from armfold.shell.envs.pufferlib import check_vector, lane_keys
from armfold.shell.envs.spaces import check_actions, pixel_spaces


class PixelsPufferEnv(PufferEnv):  # type: ignore[misc]
    """N lanes of a pixel environment as a native environment of N agents; `face` is the `TaskEnv` beneath.

    A step writes straight into PufferLib's buffers: observations [N, K, 72, 80] uint8, rewards float32, terminals, and
    truncations, with the first observation of the next episode. After a step in which lanes have ended, one dict has
    means over these: episode_return (reward unit), episode_length (steps), episode_goal (share that reached it) and
    episode_fault (share that an illegal opcode stopped).
    """

    def __init__(
        self,
        make: Callable[[], TaskEnv],
        *,
        index: int = 0,
        buf: dict[str, Any] | None = None,
        seed: int | None = 0,
    ) -> None:
        """The lanes of what `make` makes, a `PixelsEnv` or `GoalEnv` on the CPU; called here, in the worker.

        index: they are lanes index * N and on of a larger run. buf, seed: what PufferLib hands over; the seed is for a
        `reset` that is given none. Raises ValueError for what cannot be.
        """
        if multiprocessing.parent_process() is not None:
            torch.set_num_threads(1)  # the threads of a parent are gone in its fork, which would wait for them for ever
        check_size("index", index, low=0)
        self.face = make()
        if not isinstance(self.face, TaskEnv) or self.face.device.type != "cpu" or not self.face.autoreset:
            raise ValueError("make must make a PixelsEnv or GoalEnv on the CPU with autoreset True")
        seen, actions = pixel_spaces(self.face.stack_k, len(self.face.backend.actions))
        self.single_observation_space, self.single_action_space = seen, actions
        self.num_agents = self.face.num_envs
        super().__init__(buf)
        self.index, self._seed = index, index if seed is None else seed
        obs, reward, terminated, truncated = map(
            torch.from_numpy, (self.observations, self.rewards, self.terminals, self.truncations)
        )
        info = self.face.make_info()
        self.face.fill([Outputs(obs, reward, terminated, truncated, info)])
        self._faults = info.faults.numpy()
        self._returns, self._lengths = np.zeros(self.num_agents), np.zeros(self.num_agents, np.int64)

    def reset(self, seed: int | None = None) -> tuple[np.ndarray, list[dict[str, Any]]]:
        """First episodes of lanes index * N and on of seed - index: observations, and no infos."""
        seed = self._seed if seed is None else seed
        self.face.reset(lane_keys(seed, self.num_agents, self.index))
        self._returns[:], self._lengths[:] = 0, 0
        return self.observations, []

    def step(self, actions: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Take `actions`, integers [N]: observations, rewards, terminals, truncations, infos.

        Raises ValueError for actions of another dtype or shape, or outside [0, A).
        """
        self.face.step(check_actions(actions, self.num_agents, int(self.single_action_space.n)))
        self._returns += self.rewards
        self._lengths += 1
        return self.observations, self.rewards, self.terminals, self.truncations, self._infos()

    def _infos(self) -> list[dict[str, Any]]:
        ended = self.terminals | self.truncations
        if not ended.any():
            return []
        means = {
            "episode_return": float(self._returns[ended].mean()),
            "episode_length": float(self._lengths[ended].mean()),
            "episode_goal": float(self.terminals[ended].mean()),
            "episode_fault": float(self._faults[ended].mean()),
        }
        self._returns[ended], self._lengths[ended] = 0, 0
        return [means]

    def close(self) -> None:
        """Close the machines beneath. They are over then."""
        self.face.close()


def make_puffer_vector(
    make: Callable[[], TaskEnv],
    *,
    backend: Literal["serial", "mp"] = "serial",
    num_workers: int = 1,
    batch_size: int | None = None,
    overwork: bool = False,
) -> Any:
    """A vector of PufferLib, `Serial` or `Multiprocessing`, of `num_workers` environments as `make` makes them: of 64
    lanes each, `partial(make_pixels, "lantern", 64, threads=1)` with any of that function's options.

    The options are those of `pufferlib.make_vector`, and so is what it raises.
    """
    check_vector(num_workers, backend, num_workers, batch_size, overwork)
    creators, arguments = [PixelsPufferEnv] * num_workers, [[make]] * num_workers
    settings = [{"index": i} for i in range(num_workers)]
    if backend == "serial":
        return workers.Serial(creators, arguments, settings, num_workers)
    with cpu_threads(1, torch.device("cpu")):
        return workers.Multiprocessing(
            creators, arguments, settings, num_workers, num_workers, batch_size=batch_size, overwork=overwork
        )
