"""`manyhands doctor`: what this machine offers, what is enforced on it, and what not, and why."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.text import Text

from manyhands.cli.printing import out, plain, print_json, table
from manyhands.cli.runs import AsJson, go
from manyhands.config import load_config
from manyhands.wiring.doctor import Examination, examine


def doctor(as_json: AsJson = False) -> None:
    """Look over this machine: programs, the journal, what sandboxes enforce, models.

    Example: `manyhands doctor --json`
    """
    found = go(examine(load_config(Path.cwd()), Path.cwd()))
    if as_json:
        print_json(as_data(found))
    else:
        show(found)


def as_data(found: Examination) -> dict[str, Any]:
    data = dataclasses.asdict(found)
    machine = found.machine
    data["machine"] = {
        "servers": [
            {"kind": server.kind, "url": server.url, "models": [m.name for m in server.models]}
            for server in machine.servers
        ],
        "token_from": machine.token_from,
        "local_extra": machine.local,
        "files": len(machine.files),
    }
    return data


def show(found: Examination) -> None:
    rows = [
        ("manyhands", found.version),
        ("Python", found.python),
        ("system", f"{found.system}, {found.user}"),
        *((each.name, each.version or missing(each.needed_for)) for each in found.programs),
        ("settings", found.config or "no manyhands.toml here or above"),
        ("journal", f"{found.journal} ({found.journal_state})"),
    ]
    table(("", ""), rows)
    show_sandboxes(found)
    show_models(found)


def missing(why: str) -> Text:
    return Text(f"not installed: {why}", style="yellow")


def show_sandboxes(found: Examination) -> None:
    boxes = found.sandboxes
    out.print(f"[bold]Sandboxes[/]: {escape(plain(boxes.backend))}")
    rows = [(each.name, verdict(holds=each.holds), each.how) for each in boxes.enforced]
    table(("", "enforced", "how, or why not"), rows)
    for note in boxes.notes:
        out.print(f"  {escape(plain(note))}")
    docker = "could be used" if found.docker.answers else "not available"
    out.print(f"  Docker (`--docker IMAGE`) {docker}: {escape(plain(found.docker.how))}")
    out.print()


def verdict(*, holds: bool) -> Text:
    return Text("yes", style="green") if holds else Text("no", style="yellow")


def show_models(found: Examination) -> None:
    machine = found.machine
    rows = [
        ("configured", ", ".join(found.configured) or "none"),
        *(
            (server.kind, f"{server.url} ({len(server.models)} models)")
            for server in machine.servers
        ),
        ("Hugging Face token", machine.token_from or "none"),
        ("manyhands\\[local]", "installed" if machine.local else "not installed"),
        ("GGUF files", len(machine.files)),
    ]
    out.print("[bold]Models[/] (`manyhands models` says more)")
    table(("", ""), [(name.replace("\\", ""), text) for name, text in rows])
