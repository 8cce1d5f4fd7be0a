"""Writes calls in every dialect, as the models' chat templates do: what the parser must read back.

Invariant: nothing here is shared with the parser; a renderer knows its dialect's template only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Calls = Sequence[tuple[str, dict[str, Any]]]


def dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def objects(calls: Calls, arguments: str = "arguments", name: str = "name") -> list[str]:
    return [dump({name: n, arguments: a}) for n, a in calls]


def array(calls: Calls, arguments: str = "arguments", name: str = "name") -> str:
    return "[" + ", ".join(objects(calls, arguments, name)) + "]"


def text(value: Any) -> str:
    return value if isinstance(value, str) else dump(value)


def python(calls: Calls) -> list[str]:
    return [f"{n}({', '.join(f'{k}={v!r}' for k, v in a.items())})" for n, a in calls]


def hermes(calls: Calls) -> str:
    return "\n".join(f"<tool_call>\n{each}\n</tool_call>" for each in objects(calls))


def qwen(calls: Calls) -> str:
    blocks: list[str] = []
    for name, arguments in calls:
        inside = "".join(
            f"<parameter={k}>\n{text(v)}\n</parameter>\n" for k, v in arguments.items()
        )
        blocks.append(f"<tool_call>\n<function={name}>\n{inside}</function>\n</tool_call>")
    return "\n".join(blocks)


def seed(calls: Calls) -> str:
    blocks: list[str] = []
    for name, arguments in calls:
        inside = "".join(f"<parameter={k}>{text(v)}</parameter>\n" for k, v in arguments.items())
        blocks.append(
            f"<seed:tool_call>\n<function={name}>\n{inside}</function>\n</seed:tool_call>"
        )
    return "\n".join(blocks)


def glm(calls: Calls) -> str:
    return "\n".join(_keyed("tool_call", name, arguments) for name, arguments in calls)


def _keyed(tag: str, name: str, arguments: dict[str, Any], prefix: str = "", sep: str = "") -> str:
    p = prefix
    pairs = "".join(
        f"\n<{p}arg_key>{k}</{p}arg_key>\n<{p}arg_value>{text(v)}</{p}arg_value>"
        for k, v in arguments.items()
    )
    return f"<{tag}>{name}{sep}{pairs}\n</{tag}>"


def invoke(calls: Calls, mark: str = "", string: bool = False) -> str:
    blocks: list[str] = []
    for name, arguments in calls:
        pairs = "".join(
            f'<{mark}parameter name="{k}"'
            + (f' string="{str(isinstance(v, str)).lower()}"' if string else "")
            + f">{text(v)}</{mark}parameter>\n"
            for k, v in arguments.items()
        )
        blocks.append(f'<{mark}invoke name="{name}">\n{pairs}</{mark}invoke>\n')
    return "".join(blocks)


def dsml(calls: Calls) -> str:
    d = "｜DSML｜"
    return f"<{d}function_calls>\n{invoke(calls, d, string=True)}</{d}function_calls>"


def step3(calls: Calls) -> str:
    blocks = "".join(
        f'<｜tool_call_begin｜>function<｜tool_sep｜><steptml:invoke name="{name}">'
        + "".join(
            f'<steptml:parameter name="{k}">{text(v)}</steptml:parameter>'
            for k, v in arguments.items()
        )
        + "</steptml:invoke><｜tool_call_end｜>\n"
        for name, arguments in calls
    )
    return f"<｜tool_calls_begin｜>{blocks}<｜tool_calls_end｜>"


def deepseek3(calls: Calls) -> str:
    blocks = "\n".join(
        f"<｜tool▁call▁begin｜>function<｜tool▁sep｜>{n}\n```json\n{dump(a)}\n```<｜tool▁call▁end｜>"
        for n, a in calls
    )
    return f"<｜tool▁calls▁begin｜>{blocks}<｜tool▁calls▁end｜>"


def deepseek31(calls: Calls) -> str:
    blocks = "".join(
        f"<｜tool▁call▁begin｜>{n}<｜tool▁sep｜>{dump(a)}<｜tool▁call▁end｜>" for n, a in calls
    )
    return f"<｜tool▁calls▁begin｜>{blocks}<｜tool▁calls▁end｜>"


def kimi2(calls: Calls) -> str:
    blocks = "".join(
        f"<|tool_call_begin|>functions.{n}:{i}<|tool_call_argument_begin|>{dump(a)}"
        "<|tool_call_end|>"
        for i, (n, a) in enumerate(calls)
    )
    return f"<|tool_calls_section_begin|>{blocks}<|tool_calls_section_end|>"


def kimi3(calls: Calls) -> str:
    types = {str: "string", bool: "boolean", int: "number", float: "number", dict: "object"}
    blocks = "".join(
        f'<|open|>call tool="{n}" index="{i}"<|sep|>'
        + "".join(
            f'<|open|>argument key="{k}" type="{types.get(type(v), "array")}"<|sep|>{text(v)}'
            "<|close|>argument<|sep|>"
            for k, v in a.items()
        )
        + "<|close|>call<|sep|>"
        for i, (n, a) in enumerate(calls, 1)
    )
    return f"<|open|>tools<|sep|>{blocks}<|close|>tools<|sep|>"


def harmony(calls: Calls) -> str:
    return "<|start|>assistant".join(
        f"<|channel|>commentary to=functions.{n} <|constrain|>json<|message|>{dump(a)}<|call|>"
        for n, a in calls
    )


def gemma_value(value: Any, quote: str) -> str:
    if isinstance(value, str):
        return f"{quote}{value}{quote}"
    if isinstance(value, dict):
        pairs = ",".join(f"{k}:{gemma_value(v, quote)}" for k, v in value.items())
        return "{" + pairs + "}"
    if isinstance(value, list):
        return "[" + ",".join(gemma_value(each, quote) for each in value) + "]"
    return dump(value)


def gemma4(calls: Calls) -> str:
    quote = '<|"|>'
    return "".join(f"<|tool_call>call:{n}{gemma_value(a, quote)}<tool_call|>" for n, a in calls)


def function_gemma(calls: Calls) -> str:
    return "".join(
        f"<start_function_call>call:{n}{gemma_value(a, '<escape>')}<end_function_call>"
        for n, a in calls
    )


def command(calls: Calls) -> str:
    inside = ",\n    ".join(
        dump({"tool_call_id": str(i), "tool_name": n, "parameters": a})
        for i, (n, a) in enumerate(calls)
    )
    return f"<|START_ACTION|>[\n    {inside}\n]<|END_ACTION|>"


def react(calls: Calls) -> str:
    return "\n".join(f"Action: {n}\nAction Input: {dump(a)}" for n, a in calls)


def mistral11(calls: Calls) -> str:
    return "".join(f"[TOOL_CALLS]{n}[CALL_ID]c{i}[ARGS]{dump(a)}" for i, (n, a) in enumerate(calls))


@dataclass(frozen=True)
class Dialect:
    """``detected``: what detection calls it. ``markers``: what its strings must survive.

    ``raw``: its strings are not escaped, so its own closing tags in a row would be ambiguous.
    ``name_bare``: an unknown tool is no call. ``keys``: what object keys may be made of.
    """

    render: Callable[[Calls], str]
    markers: tuple[str, ...]
    detected: str = ""
    raw: bool = False
    bare: bool = False
    plain_keys: bool = False


TAGS = ("<tool_call>", "</tool_call>", "<think>", "</think>")
DIALECTS: dict[str, Dialect] = {
    "hermes": Dialect(hermes, TAGS),
    "ernie": Dialect(hermes, TAGS, "hermes"),
    "granite": Dialect(lambda c: f"<|tool_call|>{array(c)}", ("<|tool_call|>", "]")),
    "phi-4": Dialect(lambda c: f"functools{array(c)}", ("functools[", "]", "</think>")),
    "llama3-function": Dialect(
        lambda c: "".join(f"<function={n}>{dump(a)}</function>" for n, a in c),
        ("</function>", "<function=x>"),
    ),
    "qwen3-coder": Dialect(
        qwen, ("</parameter>", "</tool_call>", "<parameter=x>", "</think>"), raw=True
    ),
    "glm-4.5": Dialect(glm, ("</arg_value>", "<arg_key>", "</think>"), raw=True),
    "mistral-v11": Dialect(mistral11, ("[TOOL_CALLS]", "[ARGS]{}", "[/THINK]")),
    "mistral": Dialect(lambda c: f"[TOOL_CALLS] {array(c)}", ("[TOOL_CALLS]", "]", "}]")),
    "deepseek-v3": Dialect(deepseek3, ("```", "<｜tool▁call▁end｜>", "<｜tool▁sep｜>")),
    "deepseek-v3.1": Dialect(deepseek31, ("<｜tool▁call▁end｜>", "<｜tool▁calls▁end｜>")),
    "deepseek-v3.2": Dialect(
        dsml, ("</｜DSML｜parameter>", "<｜DSML｜invoke>", "</think>"), raw=True
    ),
    "kimi-k2": Dialect(kimi2, ("<|tool_call_end|>", "<|tool_call_begin|>")),
    "kimi-k3": Dialect(kimi3, ("<|close|>argument<|sep|>", "<|sep|>"), raw=True),
    "minimax-m2": Dialect(
        lambda c: f"<minimax:tool_call>\n{invoke(c)}</minimax:tool_call>",
        ("</parameter>", "</minimax:tool_call>"),
        raw=True,
    ),
    "invoke": Dialect(
        lambda c: f"<function_calls>\n{invoke(c)}</function_calls>",
        ("</parameter>", "</function_calls>"),
        raw=True,
    ),
    "olmo3": Dialect(
        lambda c: "<function_calls>\n" + "\n".join(python(c)) + "\n</function_calls>",
        ("</function_calls>", ")", "f(a=1)"),
    ),
    "command-r": Dialect(command, ("<|END_ACTION|>", "]", "<|END_THINKING|>")),
    "gemma-4": Dialect(gemma4, ('<|"|>', "<tool_call|>", "}"), raw=True, plain_keys=True),
    "function-gemma": Dialect(
        function_gemma, ("<escape>", "<end_function_call>"), raw=True, plain_keys=True
    ),
    "internlm2": Dialect(
        lambda c: "".join(
            f"<|action_start|><|plugin|>\n{each}<|action_end|>" for each in objects(c, "parameters")
        ),
        ("<|action_end|>", "<|action_start|><|plugin|>"),
    ),
    "hunyuan": Dialect(lambda c: f"<tool_calls>{array(c)}</tool_calls>", ("</tool_calls>", "]")),
    "jamba": Dialect(
        lambda c: f"<tool_calls>{array(c)}</tool_calls>", ("</tool_calls>", "]"), "hunyuan"
    ),
    "seed-oss": Dialect(seed, ("</parameter>", "</seed:tool_call>", "</seed:think>"), raw=True),
    "step3": Dialect(step3, ("</steptml:parameter>", "<｜tool_calls_end｜>"), raw=True),
    "nemotron": Dialect(lambda c: f"<TOOLCALL>{array(c)}</TOOLCALL>", ("</TOOLCALL>", "]")),
    "longcat": Dialect(
        lambda c: "\n".join(
            f"<longcat_tool_call>\n{each}\n</longcat_tool_call>" for each in objects(c)
        ),
        ("</longcat_tool_call>", "</longcat_think>"),
    ),
    "apertus": Dialect(
        lambda c: "<|tools_prefix|>" + dump([{n: a} for n, a in c]) + "<|tools_suffix|>",
        ("<|tools_suffix|>", "]"),
    ),
    "lfm2": Dialect(
        lambda c: f"<|tool_call_start|>[{', '.join(python(c))}]<|tool_call_end|>",
        ("<|tool_call_end|>", "]", ")"),
    ),
    "lm-studio": Dialect(
        lambda c: "\n".join(f"[TOOL_REQUEST]{each}[END_TOOL_REQUEST]" for each in objects(c)),
        ("[END_TOOL_REQUEST]", "[TOOL_REQUEST]"),
    ),
    "harmony": Dialect(harmony, ("<|call|>", "<|end|>", "<|message|>")),
    "llama3-json": Dialect(
        lambda c: "; ".join(objects(c, "parameters")), ("; ", "}", "<|python_tag|>"), bare=True
    ),
    "llama-pythonic": Dialect(
        lambda c: f"[{', '.join(python(c))}]", ("]", ")", "'", '"'), bare=True
    ),
    "xlam": Dialect(array, ("]", "}]", "```"), bare=True),
    "json": Dialect(
        lambda c: "\n".join(f"```json\n{each}\n```" for each in objects(c)),
        ("```", "\n```\n", "}"),
        bare=True,
    ),
    "gemma-tool-code": Dialect(
        lambda c: "```tool_code\n" + "\n".join(python(c)) + "\n```", ("```", ")"), bare=True
    ),
    "gemma-pythonic": Dialect(
        lambda c: f"```python\n[{', '.join(python(c))}]\n```", ("]", "```", ")"), bare=True
    ),
    "react": Dialect(react, ("Observation:", "Action: f", "}"), bare=True),
}

#: Other forms of the same dialects.
VARIANTS: dict[str, tuple[str, Callable[[Calls], str]]] = {
    "hermes without line breaks": ("hermes", lambda c: hermes(c).replace("\n", "")),
    "qwen without the block": (
        "qwen3-coder",
        lambda c: qwen(c).replace("<tool_call>\n", "").replace("\n</tool_call>", ""),
    ),
    "glm 4.7": ("glm-4.5", lambda c: glm(c).replace("\n", "")),
    "hunyuan 3": (
        "hunyuan",
        lambda c: (
            "<tool_calls>\n"
            + "\n".join(_keyed("tool_call", n, a, sep="<tool_sep>") for n, a in c)
            + "\n</tool_calls>"
        ),
    ),
    "longcat with keys": (
        "longcat",
        lambda c: "\n".join(_keyed("longcat_tool_call", n, a, "longcat_") for n, a in c),
    ),
    "deepseek v4": (
        "deepseek-v3.2",
        lambda c: dsml(c).replace("function_calls", "tool_calls"),
    ),
    "granite 3.1": ("granite", lambda c: f"<tool_call>{array(c)}"),
    "granite 20b": (
        "granite",
        lambda c: "\n".join(f"<function_call> {each}" for each in objects(c)),
    ),
    "phi-4 with tokens": ("phi-4", lambda c: f"<|tool_call|>{array(c)}<|/tool_call|>"),
    "mistral v11 without tokens": (
        "mistral-v11",
        lambda c: "".join(f"[TOOL_CALLS]{n}{dump(a)}" for n, a in c),
    ),
    "command-r of 2024": (
        "command-r",
        lambda c: f"Action: ```json\n{array(c, 'parameters', 'tool_name')}\n```",
    ),
    "llama 3 with its token": (
        "llama3-json",
        lambda c: "<|python_tag|>" + "; ".join(objects(c, "parameters")) + "<|eom_id|>",
    ),
    "llama 4": (
        "llama-pythonic",
        lambda c: f"<|python_start|>[{', '.join(python(c))}]<|python_end|>",
    ),
    "gemma tool_code with print": (
        "gemma-tool-code",
        lambda c: (
            "```tool_code\n"
            + "\n".join(f"print(default_api.{each})" for each in python(c))
            + "\n```"
        ),
    ),
    "harmony with the recipient first": (
        "harmony",
        lambda c: "".join(
            f"<|start|>assistant to=functions.{n}<|channel|>commentary json<|message|>{dump(a)}"
            "<|call|>"
            for n, a in c
        ),
    ),
    "json array in a fence": ("json", lambda c: f"```\n{array(c)}\n```"),
    "openai's own form": (
        "xlam",
        lambda c: dump(
            [
                {"id": "c1", "type": "function", "function": {"name": n, "arguments": dump(a)}}
                for n, a in c
            ]
        ),
    ),
}
