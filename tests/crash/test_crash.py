from concurrent.futures import ThreadPoolExecutor

from tests.crash.rounds import play

ROUNDS = 3


def test_a_killed_sweep_is_resumed_to_the_truth() -> None:
    with ThreadPoolExecutor(2) as pool:
        rounds = list(pool.map(play, range(ROUNDS)))

    assert [wrong for each in rounds for wrong in each.wrong] == []
    assert sum(each.killed for each in rounds) >= ROUNDS / 2
