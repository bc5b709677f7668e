"""Arena as one game in plain Python, written to be read beside the specification; the tests step it beside the tensors.

It shares no code with `envs.arena`, and its numbers stand where they are used.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

WIDTH, HEIGHT = 1600, 1280
NONE = (1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
# Spawn cooldown, enemies, spawner HP, enemy speed, shaping, penalty of damage.
STAGES = {0: NONE, 1: (2.5, .3, .4, .2, 4, .3), 2: (2, .5, .5, .85, 3, .6), 3: (1.8, .6, .65, .9, 2.5, .9),
          4: (1.4, .75, .8, .95, 1.8, 1.2), 5: (1.15, .85, .9, 1, 1, 1.3), 6: (1, 1, 1, 1, .5, 1)}
SPEED, INTERVAL = (1, .9, .8, .7, .75), (1, .9, .85, .8, .75)
PLACES = ([(800, 200)], [(200, 640), (1400, 640)], [(800, 200), (200, 1080), (1400, 1080)],
          [(200, 200), (1400, 200), (200, 1080), (1400, 1080)],
          [(200, 200), (1400, 200), (200, 1080), (1400, 1080), (800, 640)])


@dataclass
class Thing:
    """An enemy, a spawner or a shot; `number` is its place in the list before the step."""

    x: float
    y: float
    health: float = 0
    cooldown: int = 0
    speed: float = 0
    interval: int = 0
    life: int = 0
    vx: float = 0
    vy: float = 0
    player: bool = False
    number: int = 0


@dataclass
class Player:
    x: float
    y: float
    vx: float
    vy: float
    rot: float
    health: float
    cooldown: int


@dataclass
class Twin:
    """One game."""

    style: int
    stage: int
    shaping: bool
    player: Player
    enemies: list[Thing]
    spawners: list[Thing]
    shots: list[Thing]
    numbers: dict[str, float]
    parts: dict[str, float] = field(default_factory=dict)
    dealt: float = 0
    taken: float = 0
    destroyed: int = 0

    def step(self, act: int, draws: dict[str, Any]) -> None:
        """`draws`: fire [8], angle [5][6], distance [5][5], jitter [5][2]."""
        self.parts = dict.fromkeys(("survival", "hit_enemy", "kill_enemy", "hit_spawner", "kill_spawner", "quick_kill",
                                    "phase", "damage", "death", "shaping"), 0.0)
        self.dealt = self.taken = self.destroyed = 0
        self.numbers["step"] += 1
        self.move_player(act)
        for enemy in self.enemies:
            self.move_enemy(enemy, draws["fire"])
        for spawner in self.spawners:
            self.spawn(spawner, draws)
        self.move_shots()
        self.hit_by_player()
        self.hit_player()
        self.parts["survival"] = .01
        self.shape()
        self.enemies = [enemy for enemy in self.enemies if enemy.health > 0]
        self.spawners = [spawner for spawner in self.spawners if spawner.health > 0]
        self.shots = [shot for shot in self.shots if shot.life > 0]
        if not self.spawners:
            self.pass_phase(draws["jitter"])
        if self.player.health == 0:
            self.parts["death"] = -100
        self.numbers["episode_reward"] += sum(self.parts.values())

    @property
    def modifier(self) -> dict[str, float]:
        return dict(zip(("cooldown", "enemies", "health", "speed", "shaping", "penalty"), STAGES[self.stage],
                        strict=True))

    def move_player(self, act: int) -> None:
        player = self.player
        if self.style == 1:
            player.rot = (player.rot + math.radians({2: -5, 3: 5}.get(act, 0))) % (2 * math.pi)
            if act == 1:
                player.vx, player.vy = player.vx + .3 * math.cos(player.rot), player.vy + .3 * math.sin(player.rot)
            player.vx, player.vy = .97 * player.vx, .97 * player.vy
            speed = math.hypot(player.vx, player.vy)
            if speed > 6:
                player.vx, player.vy = player.vx * 6 / speed, player.vy * 6 / speed
        else:
            player.vx, player.vy = {1: (0, -5), 2: (0, 5), 3: (-5, 0), 4: (5, 0)}.get(act, (0, 0))
            if player.vx or player.vy:
                player.rot = math.atan2(player.vy, player.vx)
        player.x, player.y = inside(player.x + player.vx, player.y + player.vy, 15)
        player.cooldown = max(0, player.cooldown - 1)
        if act == (4 if self.style == 1 else 5) and player.cooldown == 0:
            player.cooldown = 10
            self.shoot(player.x, player.y, math.cos(player.rot), math.sin(player.rot), True)

    def shoot(self, x: float, y: float, dx: float, dy: float, player: bool) -> None:
        self.shots.append(Thing(x, y, vx=8 * dx, vy=8 * dy, life=120, player=player))

    def move_enemy(self, enemy: Thing, fire: list[float]) -> None:
        dx, dy = towards(enemy, self.player)
        enemy.x, enemy.y = inside(enemy.x + dx * enemy.speed, enemy.y + dy * enemy.speed, 12)
        enemy.cooldown = max(0, enemy.cooldown - 1)
        if enemy.cooldown == 0 and fire[enemy.number] < .3:
            enemy.cooldown = 60
            self.shoot(enemy.x, enemy.y, *towards(enemy, self.player), False)

    def spawn(self, spawner: Thing, draws: dict[str, Any]) -> None:
        spawner.cooldown = max(0, spawner.cooldown - 1)
        if spawner.cooldown > 0 or len(self.enemies) >= int(8 * self.modifier["enemies"]):
            return
        spawner.cooldown = spawner.interval
        angles, distances = draws["angle"][spawner.number], draws["distance"][spawner.number]
        for angle, distance in zip(angles, [37 + distance for distance in distances] + [42], strict=True):
            turn = 2 * math.pi * angle
            x, y = inside(spawner.x + distance * math.cos(turn), spawner.y + distance * math.sin(turn), 12)
            if all(math.hypot(x - enemy.x, y - enemy.y) >= 150 for enemy in self.enemies):
                break
        speed = 2 * self.modifier["speed"] * SPEED[int(self.numbers["phase"])]
        self.enemies.append(Thing(x, y, health=10, speed=speed))

    def move_shots(self) -> None:
        for shot in self.shots:
            shot.x, shot.y, shot.life = shot.x + shot.vx, shot.y + shot.vy, shot.life - 1
            if not (0 <= shot.x <= WIDTH and 0 <= shot.y <= HEIGHT):
                shot.life = 0

    def hit_by_player(self) -> None:
        for shot in (shot for shot in self.shots if shot.player and shot.life > 0):
            enemy = next((enemy for enemy in self.enemies if enemy.health > 0 and touch(shot, enemy, 3 + 12)), None)
            spawner = next((one for one in self.spawners if one.health > 0 and touch(shot, one, 3 + 25)), None)
            if enemy is not None:
                self.hit_enemy(enemy)
            elif spawner is not None:
                self.hit_spawner(spawner)
            else:
                continue
            shot.life = 0

    def hit_enemy(self, enemy: Thing) -> None:
        self.dealt += enemy.health
        enemy.health = 0
        self.destroyed += 1
        self.numbers["enemies_destroyed"] += 1
        self.parts["hit_enemy"] += 2
        self.parts["kill_enemy"] += 5

    def hit_spawner(self, spawner: Thing) -> None:
        self.dealt += min(10, spawner.health)
        spawner.health = max(0, spawner.health - 10)
        self.parts["hit_spawner"] += 10
        if spawner.health > 0:
            return
        self.numbers["spawners_destroyed"] += 1
        if self.numbers["first_spawner_kill_step"] == -1:
            self.numbers["first_spawner_kill_step"] = self.numbers["step"]
        self.parts["kill_spawner"] += 75
        if self.numbers["step"] - self.numbers["phase_start_step"] < 500:
            self.parts["quick_kill"] += 50
        self.player.health = min(150, self.player.health + 75)

    def hit_player(self) -> None:
        for shot in (shot for shot in self.shots if not shot.player and shot.life > 0):
            if self.player.health > 0 and touch(shot, self.player, 3 + 15):
                shot.life = 0
                self.hurt()
        for enemy in (enemy for enemy in self.enemies if enemy.health > 0):
            if self.player.health > 0 and touch(enemy, self.player, 12 + 15):
                enemy.health = 0
                self.destroyed += 1
                self.numbers["enemies_destroyed"] += 1
                self.hurt()

    def hurt(self) -> None:
        before = self.player.health
        self.player.health = max(0, before - 10)
        self.taken += before - self.player.health
        self.parts["damage"] -= 2 * self.modifier["penalty"]

    def shape(self) -> None:
        if not self.shaping:
            return
        total, health = sum(spawner.health for spawner in self.spawners), self.player.health
        damage = self.numbers["prev_spawner_health"] - total
        loss = self.numbers["prev_player_health"] - health
        if not math.isnan(damage):
            value = (damage + 5 * self.destroyed) * (.5 + .5 * health / 150) - .8 * max(0, loss)
            self.parts["shaping"] = max(-.2, min(.2, .01 * self.modifier["shaping"] * value))
        self.numbers["prev_spawner_health"], self.numbers["prev_player_health"] = total, health

    def pass_phase(self, jitter: list[list[float]]) -> None:
        self.parts["phase"] = 100
        self.numbers["phase"] += 1
        phase = int(self.numbers["phase"])
        if phase == 5:
            self.numbers["win"], self.numbers["win_step"] = True, self.numbers["step"]
            return
        self.enemies = []
        self.numbers["phase_start_step"] = self.numbers["step"]
        self.numbers["prev_spawner_health"] = self.numbers["prev_player_health"] = math.nan
        interval, health = int(120 * (INTERVAL[phase] * self.modifier["cooldown"])), int(100 * self.modifier["health"])
        self.spawners = [Thing(x + dx, y + dy, health=health, interval=interval)
                         for (x, y), (dx, dy) in zip(PLACES[phase], jitter, strict=False)]

    def observe(self) -> list[float]:
        player, phase = self.player, int(self.numbers["phase"])
        x, y = player.x / WIDTH, player.y / HEIGHT
        enemies, spawners = self.nearest(self.enemies)[:2], self.nearest(self.spawners)[:2]
        hostile = [shot for shot in self.shots if not shot.player]
        shots = self.nearest(hostile)[:1]
        near = sum(math.hypot(shot.x - player.x, shot.y - player.y) < 150 for shot in hostile)
        seen = [x, y, max(-1, min(1, player.vx / 6)), max(-1, min(1, player.vy / 6)), player.rot / (2 * math.pi),
                player.health / 150, player.cooldown / 10, phase / 5,
                len(self.spawners) / (phase + 1), 1 - self.numbers["step"] / 3000]
        for enemy in (*enemies, None, None)[:2]:
            seen += [1, .5, 0] if enemy is None else [*self.bearing(enemy), 1]
        for spawner in (*spawners, None, None)[:2]:
            seen += [1, .5, 0, 0] if spawner is None else [*self.bearing(spawner), 1, spawner.health / 100]
        seen += [1, .5] if not shots else self.bearing(shots[0])
        return [*seen, min(near / 5, 1), x, 1 - x, y, 1 - y, len(self.enemies) / 8]

    def nearest(self, things: list[Thing]) -> list[Thing]:
        return sorted(things, key=lambda one: math.hypot(one.x - self.player.x, one.y - self.player.y))

    def bearing(self, thing: Thing) -> list[float]:
        dx, dy = thing.x - self.player.x, thing.y - self.player.y
        angle = (math.atan2(dy, dx) - self.player.rot + math.pi) % (2 * math.pi) - math.pi
        return [math.hypot(dx, dy) / math.hypot(WIDTH, HEIGHT), (angle + math.pi) / (2 * math.pi)]


def inside(x: float, y: float, radius: float) -> tuple[float, float]:
    return max(radius, min(WIDTH - radius, x)), max(radius, min(HEIGHT - radius, y))


def towards(thing: Thing, player: Player) -> tuple[float, float]:
    dx, dy = player.x - thing.x, player.y - thing.y
    distance = math.hypot(dx, dy)
    return (dx / distance, dy / distance) if distance > 0 else (0, 0)


def touch(one: Thing, other: Thing | Player, reach: float) -> bool:
    return math.hypot(one.x - other.x, one.y - other.y) < reach
