"""The time and size of a checkpoint, by the amount of new experience: `python benchmarks/saving.py`.

A replay of a million steps (27 observations, 8 actions), which is saved when it is full and then every 10 000 steps:
seconds and bytes of each save, and of loading. The first two saves write all of it, for the two generations share no
file.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from algorithm import create_agent
from algorithm.replay_buffer import create_buffer
from benchmarks.contestants import filled_buffer, settings
from record.store import Log, Snapshot, Store


def save(store: Store, agent, buffer) -> tuple[float, int]:
    """Save once; returns seconds and bytes written."""
    before = sizes(store.directory)
    start = time.perf_counter()
    log = Log(buffer.first_episode, buffer.episodes_stored, buffer.read_episodes, buffer.episode_bytes)
    store.save(Snapshot({"replay": buffer.numbers()}, agent.state_dict() | buffer.tensors(), log))
    seconds = time.perf_counter() - start
    return seconds, sum(size for path, size in sizes(store.directory).items() if before.get(path) != size)


def sizes(directory: Path) -> dict[Path, int]:
    return {path: path.stat().st_size for path in directory.rglob("*.*")}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--new", type=int, default=10_000)
    given = parser.parse_args()
    config = settings("rrd-sac", "cpu", given.steps)
    buffer, more = filled_buffer(config), filled_buffer(settings("rrd-sac", "cpu", given.new))
    agent = create_agent(config)
    episodes = [more.storage.read_episode(more._rows_of(slot)) for slot in range(more.episodes)]
    with tempfile.TemporaryDirectory(dir=".") as directory:
        store = Store(Path(directory))
        for number in range(6):
            seconds, written = save(store, agent, buffer)
            print(f"save {number + 1}: {seconds:.3f} s, {written / 1e6:.1f} MB")
            for episode in episodes:
                buffer.store_episode(episode)
        store.close()
        start = time.perf_counter()
        found = Store(Path(directory)).load()
        other = create_buffer(config)
        other.restore(found.values["replay"], {"generator": found.tensors["generator"]}, found.log())
        print(f"load: {time.perf_counter() - start:.2f} s; {sum(sizes(Path(directory)).values()) / 1e6:.0f} MB on disk")
    return 0


if __name__ == "__main__":
    sys.exit(main())
