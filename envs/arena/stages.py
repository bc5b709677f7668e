"""Arena's curriculum: what the episodes of a stage have to reach before the next stage begins.

The means are over the last 100 episodes, those of the stages before included, and at most one stage is passed at a
time. The settings of a stage are numbers of `envs.arena.rules.STAGES`.
"""

from __future__ import annotations

WINDOW, KEEP = 100, 200

# Name, least number of episodes, metric -> lowest mean or (lowest, highest).
_STAGES = (
    ("Survival Basics", 50, {"spawners_destroyed": 0.1, "win": 0.0, "length": 400.0}),
    ("Enemy Elimination", 75, {"spawners_destroyed": 0.3, "win": 0.0, "length": 600.0, "enemies_destroyed": 3.0,
                               "damage_dealt": 50.0}),
    ("Spawner Targeting", 100, {"spawners_destroyed": 0.8, "win": 0.0, "length": 800.0}),
    ("Multi-Target Management", 150, {"spawners_destroyed": 1.2, "win": 0.1, "length": (750.0, 1500.0),
                                      "enemies_destroyed": 5.0, "damage_dealt": 100.0}),
    ("Aggressive Combat", 200, {"spawners_destroyed": 2.2, "win": 0.35, "length": (700.0, 1200.0),
                                "enemies_destroyed": 12.0, "damage_dealt": 250.0, "damage_taken": (None, 150.0),
                                "win_step": (None, 1000.0)}),
    ("Elite Performance", 1, {}),
)

CURRICULUM = {"window": WINDOW, "keep": KEEP, "fresh": False, "stages": [
    {"name": f"Grade {number}: {name}", "settings": {"stage": number}, "until": until, "episodes": episodes}
    for number, (name, episodes, until) in enumerate(_STAGES, 1)]}
