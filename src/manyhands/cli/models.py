"""`manyhands models`: what is configured, what answers on this machine, and what it can do.

What servers say about themselves is data: it is printed inert.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from manyhands.cli.printing import err, out, plain, print_json, table
from manyhands.cli.runs import AsJson, go
from manyhands.config import Config, find_config, load_config, parse_spec, parse_specs
from manyhands.errors import ConfigError, PortError
from manyhands.ports import Price
from manyhands.wiring import (
    PROBE,
    USUAL_PORTS,
    Assigned,
    Download,
    Endpoints,
    Found,
    Listed,
    Machine,
    Probe,
    Server,
    assigned,
    configured,
    look_around,
    probe,
    spec_for,
    ways,
)

_GOOD = "green"
_STYLE = {
    Found.WORKS: _GOOD,
    Found.ENFORCED: _GOOD,
    Found.NO: "yellow",
    Found.NOT_ENFORCED: "yellow",
    Found.NOT_TRIED: "dim",
}
#: Models of one server that are shown; JSON has them all.
_SHOWN = 12


def models(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[MODEL]...", help="What to try; default: all that is configured."),
    ] = None,
    probing: Annotated[
        bool,
        typer.Option("--probe", help="Try what models can do: nine questions, one request each."),
    ] = False,
    port: Annotated[
        list[int] | None,
        typer.Option(
            help="Look at this port, not at the usual ones. Repeatable.", min=1, max=65535
        ),
    ] = None,
    seconds: Annotated[
        float, typer.Option(help="How long one request of --probe may take.", min=0.1)
    ] = 60.0,
    as_json: AsJson = False,
) -> None:
    """List the models that are configured and the servers that answer here; --probe tries them.

    Examples:

    `manyhands models`

    `manyhands models --probe ollama:qwen3:8b`

    `manyhands models --probe local hosted --json`
    """
    config = load_config(Path.cwd())
    if names and not probing:
        raise ConfigError(
            f"{len(names)} models are named and --probe is not given", next="add --probe"
        )
    if probing:
        go(_try(names or _configured_names(config), config, seconds, as_json))
        return
    machine = go(look_around(port or ()))
    source = find_config(Path.cwd())
    roles = assigned(config, source, Path.cwd())
    if as_json:
        print_json(_as_data(source, configured(config), roles, machine))
    else:
        _print(source, configured(config), roles, machine)


def _configured_names(config: Config) -> list[str]:
    """Those that can be tried; the others are told."""
    listed = configured(config)
    for each in listed:
        if each.problem:
            err.print(f"not tried: {each.name}: {plain(each.problem)}", markup=False)
    found = [each.name for each in listed if not each.problem]
    if not found:
        raise ConfigError(
            "there is no configured model to try",
            next="name one, such as: manyhands models --probe ollama:qwen3:8b",
        )
    return found


# -------------------------------------------------------------------- trying


async def _try(names: Sequence[str], config: Config, seconds: float, as_json: bool) -> None:
    specs = [str(spec) for name in names for spec in parse_specs(name)]
    made: list[dict[str, Any]] = []
    silent: list[str] = []
    async with Endpoints(config) as endpoints:
        asked = [(spec, endpoints.first(spec)) for spec in specs]
        await fetch(endpoints)
        for spec, model in asked:
            shown = escape(plain(spec))
            with err.status(f"{shown} …") as status:
                found = await probe(
                    model,
                    seconds=seconds,
                    on_question=lambda what, name=shown, at=status: at.update(f"{name}: {what} …"),
                )
            made.append(_probe_data(spec, model.name, found))
            if not found.answered:
                silent.append(spec)
            if not as_json:
                _print_probe(spec, config, found)
    if as_json:
        print_json(made)
    if silent:
        raise PortError(
            f"no reply from {', '.join(silent)}",
            next="see above why; `manyhands models` shows what answers on this machine",
        )


async def fetch(endpoints: Endpoints) -> None:
    """Download what is missing, where it can be seen."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, TransferSpeedColumn(), console=err, transient=True) as progress:
        bars: dict[str, TaskID] = {}

        def tell(of: Download) -> None:
            if of.file not in bars:
                bars[of.file] = progress.add_task(escape(plain(of.file)))
            progress.update(bars[of.file], completed=of.done, total=of.total)

        await endpoints.fetch(tell)


def _probe_data(spec: str, name: str, found: Probe) -> dict[str, Any]:
    return {
        "model": spec,
        "name": name,
        "answered": found.answered,
        "first_token_seconds": found.first_token_seconds,
        "tokens_per_second": found.tokens_per_second,
        "checks": [
            {"check": c.name, "found": c.found, "detail": c.detail, "seconds": c.seconds}
            for c in found.checks
        ],
    }


def _print_probe(spec: str, config: Config, found: Probe) -> None:
    settings = config.settings(parse_spec(spec))
    place = f"  {settings.place}" if settings else ""
    out.print(Text.assemble((plain(spec), "bold"), plain(place)), soft_wrap=True)
    table(
        ["question", "found", ">seconds", "detail"],
        [
            (
                check.name,
                Text(check.found, style=_STYLE.get(check.found, "red")),
                "" if check.seconds is None else f"{check.seconds:.2f}",
                check.detail,
            )
            for check in found.checks
        ],
    )
    pace = [
        f"first token after {found.first_token_seconds:.2f} s" if found.first_token_seconds else "",
        f"{found.tokens_per_second:.0f} tokens/s" if found.tokens_per_second else "",
    ]
    if any(pace):
        out.print(" · ".join(filter(None, pace)), markup=False)
    out.print()


# -------------------------------------------------------------------- listing


def _print(
    source: Path | None,
    listed: Sequence[Listed],
    roles: Sequence[Assigned],
    machine: Machine,
) -> None:
    if listed:
        _heading(f"Configured in {source}")
        _print_configured(listed)
    if roles:
        _heading("Roles")
        for each in roles:
            out.print(f"  {plain(each.role):<11} {plain(each.spec)}", markup=False, soft_wrap=True)
            out.print(Text(f"  {'':<11} said by {plain(each.source)}", style="dim"), soft_wrap=True)
            if each.problem:
                out.print(Text(f"  {'':<11} ✗ {plain(each.problem)}", style="red"))
    _heading("On this machine")
    _print_servers(machine)
    _print_hub(machine)
    _print_local(machine)
    first = [each.name for each in listed if not each.problem] + list(_served(machine))
    if first:
        _heading("Next")
        name = shlex.quote(first[0])
        for what, command in (
            ("try what it can do", PROBE.replace("{}", name)),
            ("use it in a study", f"manyhands lab run . --model {name}"),
        ):
            out.print(f"  {what:<20}  {plain(command)}", markup=False, soft_wrap=True)
    else:
        _heading("No model yet. Each of these gives you one")
        for way in ways(machine):
            out.print(f"  {plain(way.title)}", markup=False, soft_wrap=True)
            command = Text(f"      {plain(way.command(PROBE))}", style="bold")
            out.print(command, soft_wrap=True)


def _heading(text: str) -> None:
    out.print(Text(f"\n{plain(text)}", style="bold cyan"), soft_wrap=True)


def _print_configured(listed: Sequence[Listed]) -> None:
    width = max(len(each.name) for each in listed)
    for each in listed:
        name = Text(f"  {each.name:<{width}}  ", style="bold")
        out.print(Text.assemble(name, plain(each.spec)), soft_wrap=True)
        told = " · ".join(filter(None, _about(each)))
        out.print(f"  {'':<{width}}  {plain(told)}", markup=False, soft_wrap=True)
        if each.problem:
            out.print(Text(f"  {'':<{width}}  ✗ {plain(each.problem)}", style="red"))


def _about(each: Listed) -> list[str]:
    settings = each.settings
    return [
        f"{settings.context_length} tokens of context" if settings.context_length else "",
        _price(each.price),
        f"{settings.concurrency} at once",
        f"{settings.requests_per_minute:g} requests/min" if settings.requests_per_minute else "",
        f"{settings.tokens_per_minute:g} tokens/min" if settings.tokens_per_minute else "",
        f"key in {each.key}" if each.key and not each.problem else "",
        f"falls back to {', '.join(settings.fallback)}" if settings.fallback else "",
    ]


def _price(price: Price | None) -> str:
    if price is None:
        return "price not known"
    if not price.input_per_million and not price.output_per_million:
        return "costs nothing"
    return f"USD {price.input_per_million:g} in, {price.output_per_million:g} out per million"


def _print_servers(machine: Machine) -> None:
    for server in machine.servers:
        what = server.kind or "something else"
        bullet = ("  ● ", _GOOD) if server.models else ("  ○ ", "dim")
        out.print(Text.assemble(bullet, f"{what} at {plain(server.url)}"), soft_wrap=True)
        for model in server.models[:_SHOWN]:
            spec = spec_for(server, model.name) or f"{model.name} (cannot be named)"
            room = f"   {model.context_length} tokens" if model.context_length else ""
            out.print(f"      {plain(spec)}{room}", markup=False, soft_wrap=True)
        if len(server.models) > _SHOWN:
            out.print(f"      and {len(server.models) - _SHOWN} more (--json has them)")
        if not server.models:
            why = server.note or "it has no models"
            out.print(f"      {plain(why)}", markup=False, soft_wrap=True)
    silent = [url for url in machine.asked if url not in {s.url for s in machine.servers}]
    if silent:
        told = ", ".join(_usual(url) for url in silent)
        out.print(Text.assemble(("  ○ ", "dim"), f"nobody answers: {told}"), soft_wrap=True)


def _usual(url: str) -> str:
    port = int(url.rpartition(":")[2]) if url.rpartition(":")[2].isdecimal() else 0
    kind = USUAL_PORTS.get(port)
    return f"{kind} ({port})" if kind and "127.0.0.1" in url else url


def _print_hub(machine: Machine) -> None:
    if machine.token_from:
        told = f"Hugging Face: a token is in {machine.token_from}   hf:OWNER/MODEL"
        out.print(Text.assemble(("  ● ", _GOOD), plain(told)), soft_wrap=True)
    else:
        out.print(Text.assemble(("  ○ ", "dim"), "Hugging Face: no token (HF_TOKEN)"))


def _print_local(machine: Machine) -> None:
    if machine.local:
        told = "Run by Manyhands: manyhands[local] is installed   gguf:OWNER/REPO:FILE"
        out.print(Text.assemble(("  ● ", _GOOD), told), soft_wrap=True)
    else:
        told = "Run by Manyhands: manyhands[local] is not installed"
        out.print(Text.assemble(("  ○ ", "dim"), told), soft_wrap=True)
    for file in machine.files[:_SHOWN]:
        spec = f"gguf:{file.repo}:{file.file}"
        out.print(f"      {plain(spec)}   {_size(file.size)}", markup=False, soft_wrap=True)
    if len(machine.files) > _SHOWN:
        out.print(f"      and {len(machine.files) - _SHOWN} more (--json has them)")


def _size(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"


def _served(machine: Machine) -> Iterable[str]:
    for server in machine.servers:
        for model in server.models:
            spec = spec_for(server, model.name)
            if spec:
                yield spec


def _as_data(
    source: Path | None,
    listed: Sequence[Listed],
    roles: Sequence[Assigned],
    machine: Machine,
) -> dict[str, Any]:
    return {
        "config": None if source is None else str(source),
        "models": [_listed_data(each) for each in listed],
        "roles": [
            {"role": r.role, "model": r.spec, "source": r.source, "problem": r.problem or None}
            for r in roles
        ],
        "servers": [_server_data(server) for server in machine.servers],
        "asked": machine.asked,
        "hugging_face": {"token": machine.token_from or None},
        "local": {
            "installed": machine.local,
            "cache": str(machine.cache),
            "files": [{"model": f"gguf:{f.repo}:{f.file}", "bytes": f.size} for f in machine.files],
        },
        "ways": [
            {"title": way.title, "model": way.spec, "command": way.command(PROBE)}
            for way in ways(machine)
        ],
    }


def _listed_data(each: Listed) -> dict[str, Any]:
    settings = each.settings
    return {
        "name": each.name,
        "model": each.spec,
        "address": each.address or None,
        "context_length": settings.context_length,
        "input_per_million": each.price.input_per_million if each.price else None,
        "output_per_million": each.price.output_per_million if each.price else None,
        "concurrency": settings.concurrency,
        "requests_per_minute": settings.requests_per_minute,
        "tokens_per_minute": settings.tokens_per_minute,
        "fallback": settings.fallback,
        "key": each.key or None,
        "problem": each.problem or None,
    }


def _server_data(server: Server) -> dict[str, Any]:
    return {
        "kind": server.kind or None,
        "url": server.url,
        "models": [
            {
                "name": model.name,
                "model": spec_for(server, model.name) or None,
                "context_length": model.context_length,
            }
            for model in server.models
        ],
        "note": server.note or None,
    }
