"""What an agent is handed, held against its role.

Invariant: whatever does not fit is an error before anything starts, and names the role's file.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from pydantic import BaseModel

from manyhands.agents.checks import ANSWER, FINISH, Finished, Output
from manyhands.agents.role import Role
from manyhands.agents.stepcheck.watch import Watch
from manyhands.agents.tools import Toolbox
from manyhands.errors import ConfigError, RoleError
from manyhands.ports import Model
from manyhands.runtime import Run


def admitted(
    role: Role,
    output: type[BaseModel] | None,
    toolbox: Toolbox,
    checks: Collection[str],
    chain: Sequence[Model],
    watch: Watch | None,
) -> Toolbox:
    """The tools that the role names, and no others. ``checks``: the names of those on offer.

    Raises `ConfigError`, or `RoleError` where the role's file is what has to be corrected.
    """
    where = str(role.source or f"role {role.name!r}")
    if not chain:
        raise ConfigError(f"{where}: it is given no model", next="give it one")
    if role.output is not None and role.output != (output.__name__ if output else None):
        raise RoleError(
            f"{where}: output = {role.output!r}; its caller takes "
            f"{output.__name__ if output else 'plain text'}",
            next="correct 'output', or remove it",
        )
    unknown = [name for name in role.checks if name not in checks]
    unknown += [name for name in role.completion.requires if name not in role.tools]
    if unknown:
        raise RoleError(
            f"{where}: checks or completion.requires name {unknown[0]!r}, which it is not handed; "
            f"checks: {', '.join(checks) or 'none'}; tools: {', '.join(role.tools) or 'none'}",
            next="correct or remove the name",
        )
    try:
        chosen = toolbox.select(role.tools)
    except ConfigError as error:
        raise RoleError(f"{where}: tools: {error.what}", next=error.next) from error
    terminal = output_of(role, output)
    if terminal is not None and terminal.name in chosen:
        raise RoleError(
            f"{where}: a tool cannot be called {terminal.name!r}", next="rename the tool"
        )
    if watch is not None:
        watch.fits(role.on_flag, where)
    return chosen


def output_of(role: Role, output: type[BaseModel] | None) -> Output[Any] | None:
    """What the role must answer with (None: plain text, by its first reply without a call)."""
    if output is not None:
        return Output(output, FINISH if role.completion.finish else ANSWER)
    return Output(Finished, FINISH) if role.completion.finish else None


def check_prices(scope: Run, chain: Sequence[Model]) -> None:
    """A model without a price cannot be used under a money budget. Raises `ConfigError`."""
    left = scope.remaining("micro_usd")
    for each in chain if left is not None else ():
        if each.price is None:
            raise ConfigError(
                f"model {each.name!r} has no price and agent {scope.path!r} a money budget of "
                f"{(left or 0) / 1e6:g} USD",
                next="give the model a price (0 if it costs nothing), or budget tokens instead",
            )
