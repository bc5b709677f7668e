"""Rows of one MuJoCo model, all stepped at once from a matrix of their states.

Nothing is kept between two steps, not even the first guess of the solver: a row's next state follows from its state and
its controls alone. So states can be saved, restored and set, and a row does not depend on the others.
"""

from __future__ import annotations

import mujoco
import numpy as np
import torch
from mujoco import rollout
from torch import Tensor

ROWS_PER_THREAD = 16                                        # fewer are faster without another thread


class Rows:
    """A model and the threads that step it; a state is MuJoCo's `mjSTATE_FULLPHYSICS`: time, positions, velocities."""

    def __init__(self, xml: str, rows: int):
        """
        Args:
            xml: the model, as MJCF.
            rows: how many are stepped at once; with 32 and more, in as many threads as PyTorch has.
        """
        self.model = mujoco.MjModel.from_xml_string(xml)
        self.threads = max(min(torch.get_num_threads(), rows // ROWS_PER_THREAD), 1)
        self.data = [mujoco.MjData(self.model) for _ in range(self.threads)]
        self.pool = rollout.Rollout(nthread=self.threads if self.threads > 1 else 0)
        self.size = mujoco.mj_stateSize(self.model, mujoco.mjtState.mjSTATE_FULLPHYSICS)

    def start(self, positions: np.ndarray) -> Tensor:
        """Return the state at rest at these positions, (nq,), as (S,) float64."""
        data, state = self.data[0], np.zeros(self.size)
        mujoco.mj_resetData(self.model, data)
        data.qpos[:] = positions
        mujoco.mj_getState(self.model, data, state, mujoco.mjtState.mjSTATE_FULLPHYSICS)
        return torch.from_numpy(state)

    def step(self, states: Tensor, controls: Tensor, steps: int) -> Tensor:
        """Return the states after `steps` steps with constant controls: (N, S) and (N, U) float64 -> (N, S)."""
        held = controls.cpu().numpy()[:, None].repeat(steps, 1)
        found, _ = self.pool.rollout(self.model, self.data, states.cpu().numpy(), held)
        return torch.from_numpy(found[:, -1].copy()).to(states.device)

    def render(self, state: Tensor, camera: str, height: int, width: int) -> np.ndarray:
        """Draw a state, (S,): RGB, uint8 (height, width, 3)."""
        data = mujoco.MjData(self.model)
        mujoco.mj_setState(self.model, data, state.cpu().numpy(), mujoco.mjtState.mjSTATE_FULLPHYSICS)
        mujoco.mj_forward(self.model, data)
        with mujoco.Renderer(self.model, height, width) as renderer:
            renderer.update_scene(data, camera)
            return renderer.render().copy()

    def close(self) -> None:
        """End the threads."""
        self.pool.close()
