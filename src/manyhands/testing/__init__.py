"""What tests of programs on Manyhands need: public, and used by the package's own tests."""

from manyhands.testing.clock import ManualClock
from manyhands.testing.crash import CrashPoint, Ending, Victims, crash_points, kill_at

__all__ = [
    "CrashPoint",
    "Ending",
    "ManualClock",
    "Victims",
    "crash_points",
    "kill_at",
]
