"""The meeting of a group's ranks at the control actor, which is a plain object here."""

import asyncio

from sharedlayers_dist.ray.control import _Control


def meet(*calls):
    """What each of the calls gives, all of them made at once; empty where one still waits."""

    async def gather():
        control = _Control()
        made = [asyncio.ensure_future(getattr(control, name)(*args)) for name, *args in calls]
        await asyncio.wait(made, timeout=0.1)
        return [task.result() if task.done() else "waits" for task in made]

    return asyncio.run(gather())


def test_ranks_wait_until_all_have_come():
    assert meet(("meet", 0, 0, 2)) == ["waits"]
    assert meet(("meet", 0, 0, 2), ("meet", 0, 1, 2)) == ["", ""]


def test_a_rank_that_comes_twice_is_one():
    """As when the control actor is started again, and calls are repeated."""
    assert meet(("meet", 0, 0, 2), ("meet", 0, 0, 2)) == ["waits", "waits"]


def test_the_first_refusal_reaches_all_whenever_they_come():
    calls = ("meet", 0, 0, 3), ("refuse", 0, "no"), ("refuse", 0, "neither"), ("meet", 0, 2, 3)
    assert meet(*calls) == ["no", "no", "no", "no"]


def test_another_group_meets_anew():
    calls = ("refuse", 0, "no"), ("meet", 1, 0, 2), ("meet", 1, 1, 2)
    assert meet(*calls) == ["no", "", ""]
