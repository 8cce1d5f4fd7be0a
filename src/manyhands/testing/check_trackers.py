"""`check_trackers`: what every `Tracker` must do, whatever is behind it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from manyhands.ports import AlertLevel, Tracker, Training

#: A new tracker, each time of the same store, which is empty at first.
OpenTracker = Callable[[], Tracker]
Check = Callable[[OpenTracker], Awaitable[None]]

_COURSE = Training(
    name="e0001/screen/0123abcd/7",
    about={"seed": 7, "exit": "ok"},
    steps=[(0, {"train/loss": 3.0}), (5, {"train/loss": 2.0, "train/mfu_percent": 31.5})],
    summary={"metric": 1.5, "seconds": 4.0},
)


async def check_goes_on(open_tracker: OpenTracker) -> None:
    """A new run has no step; one that is opened again says how far it is, another is not it."""
    first = open_tracker()
    assert await first.begin("study", "run-a", {"slots": 2, "role planner": "tpe"}) == -1
    await first.log(3, {"run/seconds": 1.0})
    await first.log(9, {"study/runs": 2.0, "confirm/delta": -0.25}, "# Report\n\n- a *line*\n")
    await first.close()
    again = open_tracker()
    assert await again.begin("study", "run-a", {"slots": 2}) == 9
    await again.log(12, {"run/seconds": 2.0})
    await again.close()
    other = open_tracker()
    assert await other.begin("study", "run-b", {}) == -1
    await other.close()
    last = open_tracker()
    assert await last.begin("study", "run-a", {}) == 12
    await last.close()


async def check_alerts(open_tracker: OpenTracker) -> None:
    """An alert is shown once, whoever tells it; it moves no step."""
    told = (4, "run failed", "e0001/screen: exit 1, 'quoted' ü\n", AlertLevel.WARN)
    first = open_tracker()
    await first.begin("study", "run-a", {})
    assert await first.alert(*told)
    assert not await first.alert(*told)
    assert await first.alert(5, *told[1:])
    await first.log(1, {"run/seconds": 1.0})
    await first.close()
    again = open_tracker()
    assert await again.begin("study", "run-a", {}) == 1
    assert not await again.alert(*told)
    assert await again.alert(4, "another", "", AlertLevel.ERROR)
    await again.close()


async def check_training(open_tracker: OpenTracker) -> None:
    """A training is told once, and moves no step of the run that it belongs to."""
    first = open_tracker()
    await first.begin("study", "run-a", {})
    assert await first.training(_COURSE) >= len(_COURSE.steps)
    await first.log(2, {"run/seconds": 1.0})
    await first.close()
    again = open_tracker()
    assert await again.begin("study", "run-a", {}) == 2
    assert await again.training(_COURSE) == 0
    await again.close()


async def check_close(open_tracker: OpenTracker) -> None:
    """Closing twice, or what was never begun, is closing once."""
    tracker = open_tracker()
    await tracker.close()
    tracker = open_tracker()
    await tracker.begin("study", "run-a", {})
    await tracker.close()
    await tracker.close()


TRACKER_CHECKS: tuple[Check, ...] = (check_goes_on, check_alerts, check_training, check_close)
