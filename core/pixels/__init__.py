"""What pixel environments compute of frames: stacks of them, distances from a goal, new beginnings, summaries.

Frames are uint8 shades, 0 (white) to 3 (black).
"""

from armfold.core.pixels.downsample import downsample, pack, unpack
from armfold.core.pixels.goal import (
    GoalState,
    Outcome,
    check_goal_frame,
    goal_distance,
    goal_init,
    goal_restart,
    goal_step,
)
from armfold.core.pixels.info import FullInfo, InfoMode, NoInfo, StatsInfo, check_info_mode, step_info
from armfold.core.pixels.memory import MemoryState, memory_init, memory_restart, memory_step, number_change
from armfold.core.pixels.reset import choose_start, masked_reset
from armfold.core.pixels.stack import (
    Ring,
    ring_init,
    ring_reset,
    ring_stack,
    ring_update,
    stack_init,
    stack_reset,
    stack_update,
)

__all__ = [
    "FullInfo",
    "GoalState",
    "InfoMode",
    "MemoryState",
    "NoInfo",
    "Outcome",
    "Ring",
    "StatsInfo",
    "check_goal_frame",
    "check_info_mode",
    "choose_start",
    "downsample",
    "goal_distance",
    "goal_init",
    "goal_restart",
    "goal_step",
    "masked_reset",
    "memory_init",
    "memory_restart",
    "memory_step",
    "number_change",
    "pack",
    "ring_init",
    "ring_reset",
    "ring_stack",
    "ring_update",
    "stack_init",
    "stack_reset",
    "stack_update",
    "step_info",
    "unpack",
]
