"""Good scripted runs of many kinds, by seed: nothing in them is wrong.

Each family is one way of working. Families and wordings are split: the checks were tuned on
`TUNED`, and `HELD_OUT` was only measured. They are scripts, so they show what the checks see and
not how often models do it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from manyhands.agents.stepcheck import Read, Step, read_document

Message = dict[str, Any]
Dice = random.Random


@dataclass(frozen=True)
class Good:
    """A run in which every step is good. ``family``: its script's name."""

    family: str
    read: Read

    @property
    def steps(self) -> tuple[Step, ...]:
        return self.read.steps


def schema(**fields: str) -> dict[str, Any]:
    properties = {name: {"type": kind} for name, kind in fields.items()}
    return {"type": "object", "properties": properties, "required": list(fields)}


TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": parameters}}
    for name, parameters in {
        "read_file": schema(path="string"),
        "edit_file": schema(path="string", old="string", new="string"),
        "write_file": schema(path="string", content="string"),
        "bash": schema(command="string"),
        "search": schema(query="string"),
        "python": schema(code="string"),
        "todo": schema(items="array"),
        "status": schema(job="string"),
    }.items()
]


class Talk:
    """OpenAI messages of one agent, written down one after another."""

    def __init__(self, task: str, system: str = "You are careful.") -> None:
        self.messages: list[Message] = [
            {"role": "system", "content": system},
            {"role": "user", "content": task},
        ]
        self._calls = 0

    def call(self, text: str, name: str, result: str, **arguments: Any) -> None:
        self.calls(text, (name, arguments, result))

    def calls(self, text: str, *made: tuple[str, dict[str, Any], str]) -> None:
        listed: list[Message] = []
        told: list[Message] = []
        for name, arguments, result in made:
            self._calls += 1
            id = f"call_{self._calls}"
            function = {"name": name, "arguments": json.dumps(arguments)}
            listed.append({"id": id, "type": "function", "function": function})
            told.append({"role": "tool", "tool_call_id": id, "content": result})
        said = {
            "role": "assistant",
            "content": text,
            "tool_calls": listed,
            "tokens": 20 + len(text),
        }
        self.messages += [said, *told]

    def say(self, text: str) -> None:
        self.messages.append({"role": "assistant", "content": text, "tokens": 20 + len(text)})

    def user(self, text: str) -> None:
        self.messages.append({"role": "user", "content": text})

    def good(self, family: str) -> Good:
        document = {"messages": self.messages, "tools": TOOLS}
        return Good(family, read_document(document, family))


NAMES = [
    *("parser", "cache", "router", "ledger", "mailer", "report"),
    *("config", "loader", "index", "queue", "tokens", "billing"),
]
OTHERS = [
    *("scheduler", "gateway", "invoice", "signup", "renderer"),
    *("archive", "metrics", "session", "uploads", "search"),
]


def _module(dice: Dice) -> str:
    return f"src/{dice.choice(NAMES)}_{dice.randint(2, 99)}.py"


def _failure(path: str, dice: Dice) -> str:
    stem = path.rsplit("/", 1)[-1][:-3]
    line = dice.randint(10, 90)
    return (
        f'FAILED tests/test_{stem}.py::test_total\n  File "{path}", line {line}, in total\n'
        f"    return sum(values) - 1\nAssertionError: {dice.randint(30, 99)}\n1 failed, 4 passed"
    )


def coder(dice: Dice) -> Good:
    path = _module(dice)
    stem = path.rsplit("/", 1)[-1][:-3]
    talk = Talk(f"The total of {path} is wrong. Make the tests pass.")
    talk.call(f"Let me read {path}.", "read_file", "def total(values):\n    return 0", path=path)
    tests = f"pytest tests/test_{stem}.py"
    talk.call("Let me run the tests.", "bash", _failure(path, dice), command=tests)
    old, new = "sum(values) - 1", "sum(values)"
    for _ in range(dice.randint(0, 2)):
        wrong = f"sum(values) - {dice.randint(2, 9)}"
        talk.call("", "edit_file", f"edited {path}: 1 place", path=path, old=old, new=wrong)
        talk.call("", "bash", _failure(path, dice), command=tests)
        old = wrong
    said = dice.choice(["The sum is off by one; I'll fix it.", "It subtracts one.", ""])
    talk.call(said, "edit_file", f"edited {path}: 1 place", path=path, old=old, new=new)
    talk.call("Now I run the tests again.", "bash", "5 passed in 0.21s", command=tests)
    ends = [
        f"I fixed {path}: the sum was off by one. All tests pass.",
        f"Fixed the total in {path}. The tests pass now (5 passed).",
        f"The bug was in {path}. I changed the sum, and `{tests}` passes.",
    ]
    talk.say(dice.choice(ends))
    return talk.good("coder")


def researcher(dice: Dice) -> Good:
    topics = dice.sample(NAMES, dice.randint(2, 4))
    talk = Talk(f"Compare the throughput of {', '.join(topics)} and say which is fastest.")
    rates = {topic: dice.randint(1000, 99000) for topic in topics}
    for topic in topics:
        page = (
            f"[{topic}.md#2] In the test of last spring the {topic} service handled "
            f"{rates[topic]:,} requests per second on four cores, with a median latency of "
            f"{dice.randint(11, 99) / 10} ms."
        )
        said = dice.choice(["", f"Next I look for {topic}.", f"Searching for the {topic} figures."])
        talk.call(said, "search", page, query=f"{topic} throughput")
    best = max(rates, key=rates.__getitem__)
    least = min(rates, key=rates.__getitem__)
    quote = f"the {best} service handled {rates[best]:,} requests per second"
    lines = [
        f"- {topic}: {rate:,} requests per second ({topic}.md)" for topic, rate in rates.items()
    ]
    more = rates[best] - rates[least]
    talk.say(
        "\n".join(
            [f'{best} is fastest: "{quote}".', *lines, f"It handles {more:,} more than {least}."]
        )
    )
    return talk.good("researcher")


def operator(dice: Dice) -> Good:
    name = dice.choice(NAMES)
    talk = Talk(f"Deploy the {name} service, and write down what you did.")
    talk.call("", "bash", f"{name}.service\ndocker-compose.yml\n", command="ls /srv/app")
    missing = f"cat: /srv/app/{name}.env: No such file or directory"
    talk.call("I check its settings.", "bash", missing, command=f"cat /srv/app/{name}.env")
    talk.call(
        f"There is no settings file for {name}; I write one.",
        "write_file",
        f"wrote /srv/app/{name}.env",
        path=f"/srv/app/{name}.env",
        content=f"PORT={dice.randint(2000, 9000)}",
    )
    talk.call("", "bash", f"{name} is active (running)", command=f"systemctl restart {name}")
    talk.calls(
        "",
        ("bash", {"command": f"curl -s localhost/{name}/health"}, "ok"),
        ("bash", {"command": f"journalctl -u {name} -n 5"}, f"{name}: started"),
    )
    talk.say(f"The {name} service runs. I wrote /srv/app/{name}.env, which was missing.")
    return talk.good("operator")


def chat(dice: Dice) -> Good:
    """A group of agents that speak with each other; one runs code."""
    name = dice.choice(NAMES)
    number = dice.randint(100, 9999)
    code = f"```python\nprint(count('{name}'))\n```"
    turns = [
        {"role": "user", "content": f"How many rows has the {name} table?"},
        {
            "agent": "planner",
            "content": f"The engineer counts the rows of {name}; the critic checks.",
        },
        {"agent": "engineer", "content": f"This counts them:\n{code}"},
        {"role": "terminal", "name": "terminal", "content": f"exitcode: 0\n{number}"},
        {"agent": "engineer", "content": f"The {name} table has {number} rows."},
        {"agent": "critic", "content": f"The output says {number}, so the count is right."},
        {"agent": "planner", "content": f"The answer is {number} rows."},
    ]
    return Good("chat", read_document(turns, "chat"))


def analyst(dice: Dice) -> Good:
    quarters = [dice.randint(200, 9000) for _ in range(4)]
    talk = Talk("Sum up the sales of sales.csv, with the total and the best quarter.")
    table = "quarter,sales\n" + "\n".join(f"Q{i},{n}" for i, n in enumerate(quarters, 1))
    talk.call("Let me look at sales.csv.", "read_file", table, path="sales.csv")
    talk.call("", "python", str(sum(quarters)), code="print(df.sales.sum())")
    best = quarters.index(max(quarters)) + 1
    share = 100 * max(quarters) / sum(quarters)
    talk.call("", "python", f"{share:.4f}", code="print(100 * df.sales.max() / df.sales.sum())")
    talk.say(
        f"Sales in sales.csv total {sum(quarters):,}. The best quarter is Q{best} with "
        f"{max(quarters)}, {share:.1f}% of the whole."
    )
    return talk.good("analyst")


# -------------------------------------------------------------------- held out


def poller(dice: Dice) -> Good:
    job = f"job-{dice.randint(1000, 9999)}"
    talk = Talk(f"Wait for {job} and report its loss.")
    for done in range(10, 100, dice.choice([15, 20, 30])):
        talk.call("", "status", f"{job}: running, {done}% done", job=job)
    loss = dice.randint(1000, 9999) / 1000
    talk.call("Almost there.", "status", f"{job}: completed, val_loss={loss:.4f}", job=job)
    talk.say(f"{job} has completed with a validation loss of {loss:.2f}.")
    return talk.good("poller")


def honest_failure(dice: Dice) -> Good:
    path = f"lib/{dice.choice(OTHERS)}.ts"
    talk = Talk(f"Make the build of {path} pass.")
    error = f"{path}({dice.randint(3, 80)},7): error TS2322: Type 'string' is not assignable"
    talk.call("First the build.", "bash", f"{error}\nexit status 2", command="npm run build")
    talk.call("I'll have a look at the file.", "read_file", "let n: number = text;", path=path)
    edited = f"replaced 1 occurrence in {path}"
    talk.call("", "edit_file", edited, path=path, old="number", new="string")
    talk.call("", "bash", f"{error}\nexit status 2", command="npm run build")
    ends = [
        f"The build still fails with TS2322 in {path}; changing the type did not help.",
        f"I could not get the build to pass: {path} has a type error that remains.",
    ]
    talk.say(dice.choice(ends))
    return talk.good("honest-failure")


def lab_worker(dice: Dice) -> Good:
    """Edits and hands in; it has no tool to run anything."""
    rate = dice.choice(["0.003", "0.0007", "0.02"])
    talk = Talk(f"Set the learning rate of train.py to {rate}. Make exactly this one change.")
    source = "lr = 0.001\nsteps = 400\nbatch = 64\n"
    talk.call("", "read_file", source, path="train.py")
    talk.call("", "edit_file", "ok", path="train.py", old="lr = 0.001", new=f"lr = {rate}")
    talk.call("", "read_file", source.replace("0.001", rate), path="train.py")
    talk.say(f"The learning rate in train.py is now {rate}.")
    made = talk.good("lab-worker")
    return replace(made, read=_without(made.read, "bash", "python"))


def _without(read: Read, *names: str) -> Read:
    sources = {
        agent: replace(
            source, tools={k: v for k, v in (source.tools or {}).items() if k not in names}
        )
        for agent, source in read.sources.items()
    }
    return replace(read, sources=sources)


def debugger(dice: Dice) -> Good:
    name = dice.choice(OTHERS)
    talk = Talk(f"Users report a crash in {name}. Find out why; change nothing.")
    talk.calls(
        "I start with the log and the code.",
        ("bash", {"command": f"tail -n 20 /var/log/{name}.log"}, f"KeyError: 'user_{name}'"),
        ("search", {"query": f"def {name}"}, f"app/{name}/core.py:{dice.randint(20, 400)}"),
    )
    talk.call(
        f"The log names a key; let me open app/{name}/core.py.",
        "read_file",
        f"def {name}(row):\n    return row['user_{name}']",
        path=f"app/{name}/core.py",
    )
    talk.call("", "bash", "", command=f"grep -rn user_{name} app/")
    talk.call("", "bash", f"exit code 1\nKeyError: 'user_{name}'", command=f"python -m app.{name}")
    talk.say(
        f"The crash is a KeyError: app/{name}/core.py reads the key user_{name}, which rows do not "
        "have. I changed nothing."
    )
    return talk.good("debugger")


def two_tasks(dice: Dice) -> Good:
    """A conversation that goes on: a second question after the first answer."""
    name = dice.choice(OTHERS)
    size = dice.randint(300, 90_000)
    talk = Talk(f"How large is {name}.log?")
    talk.call("", "bash", f"{size} {name}.log", command=f"wc -c {name}.log")
    talk.say(f"{name}.log has {size:,} bytes.")
    talk.user("And which program writes it?")
    talk.call(
        "I look for its name in the units.", "search", f"{name}d.service", query=f"{name}.log"
    )
    talk.say(f"It is written by {name}d.service.")
    return talk.good("two-tasks")


def scribe(dice: Dice) -> Good:
    """Writes several files, one of them again, and checks them."""
    names = dice.sample(OTHERS, 3)
    talk = Talk(f"Write a short page on each of {', '.join(names)} into docs/.")
    for name in names:
        text = f"# {name.title()}\n\nWhat the {name} does."
        talk.call(
            f"Now the page on {name}.",
            "write_file",
            "written",
            path=f"docs/{name}.md",
            content=text,
        )
    again = names[0]
    talk.call(
        f"The page on {again} lacks an example, so I add one.",
        "edit_file",
        "1 replacement",
        path=f"docs/{again}.md",
        old="does.",
        new="does, for example at night.",
    )
    talk.call("", "bash", "\n".join(f"docs/{n}.md" for n in sorted(names)), command="ls docs/*.md")
    talk.say("I created " + ", ".join(f"docs/{name}.md" for name in names) + ".")
    return talk.good("scribe")


# -------------------------------------------------------------------- written last, read once


def browser(dice: Dice) -> Good:
    """Turns with roles of their own: an agent, a web, and a person who asks again."""
    name = dice.choice(OTHERS)
    year = dice.randint(1950, 2020)
    turns = [
        {"role": "user", "content": f"When was the {name} bridge opened, and how long is it?"},
        {
            "agent": "surfer",
            "content": "I'll open the first page that the search gives.",
            "tool_calls": [{"name": "web_search", "arguments": {"q": f"{name} bridge opened"}}],
        },
        {
            "role": "tool",
            "name": "web_search",
            "content": f"1. https://bridges.example/{name}\n2. https://maps.example",
        },
        {
            "agent": "surfer",
            "content": "",
            "tool_calls": [{"name": "visit", "arguments": {"url": f"https://b.example/{name}"}}],
        },
        {"role": "tool", "name": "visit", "content": "404 not found", "is_error": True},
        {
            "agent": "surfer",
            "content": "The page is gone, so I take the other one.",
            "tool_calls": [{"name": "visit", "arguments": {"url": "https://maps.example"}}],
        },
        {
            "role": "tool",
            "name": "visit",
            "content": f"The {name} bridge, opened in {year}, is {dice.randint(200, 900)} m long.",
        },
    ]
    length = str(turns[-1]["content"]).split(" is ")[1].split()[0]
    turns.append({"agent": "surfer", "content": f"It opened in {year} and is {length} m long."})
    return Good("browser", read_document(turns, "browser"))


def accountant(dice: Dice) -> Good:
    """Queries, one of them wrong, and sums of what came back."""
    one, other = dice.randint(2000, 8000), dice.randint(2000, 8000)
    name = dice.choice(OTHERS)
    talk = Talk(f"What did we spend on {name} in 2023 and 2024?")
    query = f"SELECT sum(cost) FROM {name} WHERE year=2023"
    talk.call("", "python", "OperationalError: no such column: cost", code=query)
    fixed = query.replace("cost", "amount")
    talk.call("The column is called otherwise.", "python", f"[({one}.5,)]", code=fixed)
    talk.call("", "python", f"[({other}.25,)]", code=fixed.replace("2023", "2024"))
    talk.say(
        f"In 2023 we spent {one:,}.50 on {name}, in 2024 {other:,}.25; "
        f"that is {one + other + 0.75:,.2f} in total."
    )
    return talk.good("accountant")


def mover(dice: Dice) -> Good:
    """Renames a module with shell commands alone, and says what broke on the way."""
    old, new = dice.sample(OTHERS, 2)
    talk = Talk(f"Rename {old}.go to {new}.go.")
    talk.call("", "bash", "", command=f"git mv {old}.go {new}.go")
    broken = f"main.go:{dice.randint(5, 50)}:2: undefined: {old}\nexit status 1"
    talk.call("Now the build.", "bash", broken, command="go build ./...")
    talk.call("", "bash", "", command=f"sed -i 's/{old}/{new}/g' main.go")
    talk.call("", "bash", "ok", command="go build ./... && go test ./...")
    talk.say(f"I renamed {old}.go to {new}.go and updated main.go; the build works, tests pass.")
    return talk.good("mover")


def triage(dice: Dice) -> Good:
    """Sorts messages, several calls in a reply; no tool can run anything."""
    ids = dice.sample(range(100, 999), 3)
    talk = Talk("Sort the three new tickets.")
    shown = "\n".join(f"#{id}: {dice.choice(OTHERS)} is slow" for id in ids)
    talk.call("", "search", shown, query="status:new")
    marks = [("todo", {"items": [f"ticket {id}"]}, f"noted {id}") for id in ids]
    talk.calls(
        f"All three are about speed. I note tickets {ids[0]}, {ids[1]} and {ids[2]}.", *marks
    )
    talk.say(
        f"The tickets {ids[0]}, {ids[1]} and {ids[2]} are all about slow parts; none is urgent."
    )
    made = talk.good("triage")
    return replace(made, read=_without(made.read, "bash", "python"))


Family = Callable[[Dice], Good]
TUNED: Sequence[Family] = (coder, researcher, operator, chat, analyst)
HELD_OUT: Sequence[Family] = (*(poller, honest_failure, lab_worker, debugger, two_tasks, scribe),)

#: Written when the checks were done, and read once: no check was changed after that.
FRESH: Sequence[Family] = (browser, accountant, mover, triage)


def runs(families: Sequence[Family], seeds: range) -> list[Good]:
    return [family(random.Random(f"{family.__name__}/{s}")) for family in families for s in seeds]
