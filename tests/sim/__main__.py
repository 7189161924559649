"""``python -m tests.sim --seeds 10000``: histories by the thousand, what they held, and whether any broke a promise."""

import argparse
import sys
import time
from pprint import pformat

from tests.sim.run import SEEDS_AT_ONCE, Tally, play, play_many


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seeds", type=int, default=500, help="how many histories")
    parser.add_argument("--start", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=2, help="processes side by side")
    parser.add_argument("--first", action="store_true", help="end at the first violation")
    parser.add_argument("--replay", type=int, metavar="SEED", help="one history, and all of it")
    options = parser.parse_args()
    if options.replay is not None:
        return _replay(options.replay)
    began = time.monotonic()
    tally = Tally()
    seeds = range(options.start, options.start + options.seeds)
    for done in play_many(seeds, options.jobs, at_once=1 if options.first else SEEDS_AT_ONCE):
        tally.add(done)
        for seed, violations in done.violations.items():
            sys.stdout.write(f"seed {seed}: `python -m tests.sim --replay {seed}`\n")
            sys.stdout.writelines(f"  {violation[:2000]}\n" for violation in violations[:3])
        if options.first and tally.violations:
            break
    sys.stdout.write(tally.told(time.monotonic() - began))
    return 1 if tally.violations else 0


def _replay(seed: int) -> int:
    history, story = play(seed)
    sys.stdout.write(pformat(history, width=140) + "\n")
    sys.stdout.writelines(f"{wire}\n" for wire in story.wires)
    for life in story.lives:
        recorded, life.recorded = life.recorded, None
        sys.stdout.write(f"{life}\n")
        if recorded is not None:
            sys.stdout.writelines(f"  {key}: {row.outcome}\n" for key, row in recorded.runs.items())
    sys.stdout.writelines(f"VIOLATED {violation}\n" for violation in story.violations)
    sys.stdout.write(f"trace {story.trace.digest}\n")
    return 1 if story.violations else 0


if __name__ == "__main__":
    sys.exit(main())
