"""Every constant of the world, the boat, its sensor and the reward, in metres, seconds, kilograms, newtons, radians.

The names are those of the published program and of its `eval_configs.json` where it has one.
Lin, Szenher, Huang, Englot: Distributional Reinforcement Learning Based Integrated Decision Making and Control for
Autonomous Surface Vehicles, IEEE RA-L 10(2), 2025.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

MOST = 1000             # robots, cores or obstacles of a world
TINY = 1e-6
# name -> (lowest, highest); None: no limit
LIMITS = {"num_robots": (1, MOST), "num_cores": (0, MOST), "num_obstacles": (0, MOST), "min_start_goal_dis": (0, None),
          "width": (TINY, None), "height": (TINY, None), "core_r": (TINY, None), "v_range": (TINY, None),
          "v_rel_max": (TINY, None), "p": (TINY, None), "obs_r_range": (TINY, None), "clear_r": (0, None),
          "proposals": (1, 100_000), "max_steps": (1, None), "dt": (TINY, None), "substeps": (1, 10_000),
          "length": (TINY, None), "breadth": (TINY, None), "goal_dis": (0, None), "m": (TINY, None),
          "Izz": (TINY, None), "detection_range": (0, None), "max_obj_num": (1, MOST), "pos_std": (0, None),
          "vel_std": (0, None), "r_kappa": (0, 500), "r_mean_ratio": (0, 1)}


@dataclass(frozen=True)
class Settings:
    """The settings of a batch of worlds; `docs/marinenav.md` explains them."""

    discrete: bool = False                      # actions are indices of pairs of `thrust_change`
    worlds: str = ""                            # a file of worlds, which are played in order; "": sampled ones
    # the world and how it is sampled
    num_robots: int = 1
    num_cores: int = 8
    num_obstacles: int = 8
    min_start_goal_dis: float = 30.0
    width: float = 55.0                         # along x
    height: float = 55.0                        # along y
    core_r: float = 0.5
    v_range: tuple[float, float] = (3.0, 3.0)   # speed at the edge of a core
    v_rel_max: float = 1.0                      # between two cores of the same direction
    p: float = 0.8                              # share of a core's speed that an opposite one may have there
    obs_r_range: tuple[float, float] = (1.0, 1.0)
    clear_r: float = 10.0                       # around each start and goal
    proposals: int = 500                        # for each of robots, cores and obstacles
    max_steps: int = 1000                       # truncated in the step that begins with this count
    # the boat
    dt: float = 0.05
    substeps: int = 10
    length: float = 5.0
    breadth: float = 2.5
    goal_dis: float = 2.0
    min_thrust: float = -500.0
    max_thrust: float = 1000.0
    thrust_change: tuple[float, ...] = (0.0, -500.0, -1000.0, 500.0, 1000.0)    # newtons a second
    m: float = 400.0
    Izz: float = 450.0
    xDotU: float = 20.0
    yDotV: float = 0.0
    nDotR: float = -980.0
    xU: float = -100.0
    xUU: float = -150.0
    yV: float = -100.0
    yVV: float = -150.0
    nR: float = -980.0
    nRR: float = -950.0
    # its sensor
    detection_range: float = 20.0
    max_obj_num: int = 5
    noise: bool = True                          # False: observed radii are r_mean_ratio r, the rest is exact
    pos_std: float = 0.05
    vel_std: float = 0.05
    r_kappa: float = 1.0
    r_mean_ratio: float = 0.8
    # the reward
    timestep_penalty: float = -0.1
    COLREGs_penalty: float = -0.1
    collision_penalty: float = -5.0
    goal_reward: float = 10.0

    @property
    def robot_r(self) -> float:
        """The radius of a boat for collisions and for detection: half of the diagonal."""
        return 0.5 * math.hypot(self.length, self.breadth)

    @property
    def period(self) -> float:
        """Seconds that an action lasts."""
        return self.dt * self.substeps

    @property
    def num_actions(self) -> int:
        """The number of discrete actions: pairs of changes of the left and the right thrust."""
        return len(self.thrust_change) ** 2

    @property
    def change_scale(self) -> float:
        """The change of thrust of the continuous action 1, newtons a second."""
        return max(map(abs, self.thrust_change))

    @property
    def observation_size(self) -> int:
        """The length of an observation: the robot's own state, the objects, their mask."""
        return 7 + 6 * self.max_obj_num


DEFAULTS = dataclasses.asdict(Settings())
