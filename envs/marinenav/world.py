"""Worlds of robots: how they begin, and what one joint action does."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from envs.marinenav import boat, colregs
from envs.marinenav.field import around, currents
from envs.marinenav.layout import Layout
from envs.marinenav.perception import Objects, Sight, look
from envs.marinenav.settings import Settings

# What a step meant to a robot, the codes of `Step.info`, in the published words.
INFO = ("normal", "too long episode", "collision", "reach goal", "deactivated after collision",
        "deactivated after reaching goal")


@dataclass
class State:
    """W worlds at one time; with their `Layout`, all that the next step depends on."""

    pose: Tensor            # (W, R, 3) x, y, theta, in float64
    velocity: Tensor        # (W, R, 3) over ground, of the last substep's beginning
    velocity_r: Tensor      # (W, R, 3) through the water
    thrust: Tensor          # (W, R, 2)
    collision: Tensor       # (W, R) bool, stays
    reach_goal: Tensor      # (W, R) bool, stays
    active: Tensor          # (W, R) bool: takes part in the next step
    steps: Tensor           # (W,) joint actions since the reset

    def tensors(self) -> dict[str, Tensor]:
        """The tensors by name."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def put(self, worlds: Tensor, other: State) -> State:
        """Return it with the state of these worlds, (k,), replaced by another state of k worlds."""
        new = other.tensors()
        return State(**{name: one.index_copy(0, worlds, new[name]) for name, one in self.tensors().items()})


@dataclass
class View:
    """What the robots observe at one time; all is 0 of a robot that was not active."""

    own: Tensor             # (W, R, 7) goal x, y, velocity u, v, yaw rate, thrust left, right
    sight: Sight


@dataclass
class Step:
    """What one joint action brought each robot, (W, R) each."""

    reward: Tensor
    penalty: Tensor         # the angle that the rules of the sea penalised
    progress: Tensor        # metres nearer to the goal
    terminated: Tensor      # bool: collided or at the goal, before the time limit
    truncated: Tensor       # bool: at the time limit
    info: Tensor            # index of INFO


def begin(layout: Layout, settings: Settings, with_current: bool) -> State:
    """Return the worlds at their start.

    Args:
        with_current: whether the velocity over ground includes the current at once, as in a world from a file; in the
            published program it does not where a world was sampled.
    """
    velocity = layout.start_velocity_r
    if with_current:
        flow = currents(layout.start, layout.cores, layout.strength, settings.core_r)
        velocity = velocity + torch.nn.functional.pad(flow, (0, 1))
    no = torch.zeros_like(layout.robot_exists)
    return State(pose=torch.cat([layout.start, layout.start_theta.unsqueeze(-1)], -1), velocity=velocity.clone(),
                 velocity_r=layout.start_velocity_r.clone(), thrust=layout.start_thrust.clone(), collision=no,
                 reach_goal=no.clone(), active=layout.robot_exists.clone(),
                 steps=torch.zeros(len(no), dtype=torch.int64, device=no.device))


def observe(state: State, layout: Layout, draws: Tensor | None, settings: Settings) -> tuple[State, View]:
    """Return the state with the flags of collisions and goals brought up to date, and what the robots observe.

    A robot collides only with what it detects. No one sees a robot that is not active.
    """
    sight = look(state.pose, state.active, objects_of(state, layout, settings), draws, settings)
    arrived = distance_to_goal(state, layout) <= settings.goal_dis
    state = dataclasses.replace(state, collision=state.collision | sight.touched,
                                reach_goal=state.reach_goal | (arrived & state.active))
    return state, View(own_state(state, layout) * state.active.unsqueeze(-1), sight)


def objects_of(state: State, layout: Layout, settings: Settings) -> Objects:
    """Return what there is to be seen."""
    still = state.velocity.new_zeros(layout.obstacles.shape)
    radius = torch.full_like(state.velocity[..., 0], settings.robot_r)
    return Objects(torch.cat([layout.obstacles, state.pose[..., :2]], 1),
                   torch.cat([still, state.velocity[..., :2]], 1),
                   torch.cat([layout.obstacle_radius, radius], 1), torch.cat([layout.obstacle_exists, state.active], 1))


def own_state(state: State, layout: Layout) -> Tensor:
    """Return what a robot knows of itself, in its frame, (W, R, 7)."""
    dtype = state.velocity.dtype
    theta = state.pose[..., 2].to(dtype)
    cos, sin = torch.cos(theta), torch.sin(theta)
    goal = boat.to_body(*(layout.goal - state.pose[..., :2]).to(dtype).unbind(-1), cos, sin)
    speed = boat.to_body(state.velocity[..., 0], state.velocity[..., 1], cos, sin)
    return torch.stack([*goal, *speed, state.velocity[..., 2], *state.thrust.unbind(-1)], -1)


def distance_to_goal(state: State, layout: Layout) -> Tensor:
    """Return the true distance of each robot to its goal, (W, R) in float64."""
    return torch.linalg.vector_norm(layout.goal - state.pose[..., :2], dim=-1)


def advance(state: State, layout: Layout, change: Tensor, settings: Settings) -> State:
    """Return the worlds after all active robots have acted; no flag is changed.

    Args:
        change: of left and right thrust, newtons a second, (W, R, 2).
    """
    worlds, robots = state.active.shape
    thrust = boat.push(state.thrust, change, settings)
    moved = boat.move(state.pose.reshape(-1, 3), state.velocity_r.reshape(-1, 3), thrust.reshape(-1, 2),
                      around(state.pose[..., :2], layout.cores, layout.strength), settings)
    pose, velocity, velocity_r = (one.view(worlds, robots, 3) for one in moved)
    acts = state.active.unsqueeze(-1)
    return dataclasses.replace(state, pose=torch.where(acts, pose, state.pose),
                               velocity=torch.where(acts, velocity, state.velocity),
                               velocity_r=torch.where(acts, velocity_r, state.velocity_r),
                               thrust=torch.where(acts, thrust, state.thrust))


def step(state: State, layout: Layout, change: Tensor, draws: Tensor | None, settings: Settings,
         ) -> tuple[State, View, Step]:
    """Play one joint action of all worlds; a robot that has collided or arrived is not active afterwards.

    Args:
        change: of left and right thrust, newtons a second, (W, R, 2).
        draws: of `perception.look`, or None.
    """
    moved, view = observe(advance(state, layout, change, settings), layout, draws, settings)
    progress = (distance_to_goal(state, layout) - distance_to_goal(moved, layout)).to(change.dtype)
    outcome = judge(moved, view, progress, settings)
    done = moved.collision | moved.reach_goal
    return dataclasses.replace(moved, active=moved.active & ~done, steps=moved.steps + 1), view, outcome


def judge(state: State, view: View, progress: Tensor, settings: Settings) -> Step:
    """Return rewards and ends; the time limit comes before a collision, and that before the goal.

        r = c_time + progress + c_rules phi + {c_collision | c_goal}
    """
    penalty = rules_angle(view, settings)
    late = (state.steps >= settings.max_steps).unsqueeze(-1) & state.active
    hit, home = state.collision & state.active & ~late, state.reach_goal & state.active & ~late
    bonus = torch.where(hit, settings.collision_penalty, torch.where(home, settings.goal_reward, 0.0))
    reward = settings.timestep_penalty + progress + settings.COLREGs_penalty * penalty + bonus.to(progress.dtype)
    info = torch.where(hit, 2, torch.where(home, 3, late.long()))
    gone = torch.where(state.collision, 4, 5)
    return Step(reward * state.active, penalty, progress * state.active, hit | home, late,
                torch.where(state.active, info, gone))


def rules_angle(view: View, settings: Settings) -> Tensor:
    """Return the angle that the rules of the sea penalise, (W, R); 0 where none."""
    return colregs.penalty_angle(view.own[..., 2:4], view.sight.objects, view.sight.seen, settings.robot_r)[0]


def energy(state: State, acted: Tensor, settings: Settings) -> Tensor:
    """Return the impulse of both thrusters in one action of the robots that acted, N s, (W, R)."""
    return state.thrust.abs().sum(-1) * settings.period * acted
