"""The dialects, as data: which marks each uses, and in which form calls stand behind them.

Invariant: the order is the order of detection. Where two dialects share a mark, the one that asks
for more behind it comes first; a dialect that differs from an earlier one by nothing but its
speaker is never detected, and can be named. Formats are those of the models' published chat
templates and of the parsers that vLLM, SGLang and llama.cpp ship for them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from manyhands.agents.dialects.functions import Delimited, Pythonic
from manyhands.agents.dialects.objects import Named, Objects
from manyhands.agents.dialects.outcome import Form
from manyhands.agents.dialects.tags import Tags

_PLAIN = r"[^\W\d][\w.\-/]{0,127}"
_NAME = rf"(?P<name>{_PLAIN})"
_EMPTY = re.compile(r"")


@dataclass(frozen=True)
class Dialect:
    """``about``: who speaks it, and how. ``forms``: behind marks. ``bare``: shapes without a mark
    (see ``bare``). ``wrappers``: marks around the answer, which are no part of it; those of special
    tokens are dropped always, others where the dialect is named.
    """

    about: str
    forms: tuple[Form, ...] = ()
    bare: frozenset[str] = frozenset()
    wrappers: tuple[str, ...] = ()


def _qwen(dialect: str, block: str, *, newlines: bool) -> Tags:
    return Tags(
        dialect,
        (f"<{block}>",) if block != "tool_call" else ("<tool_call>", "<function="),
        call_open=r"<function=(?P<name>[^>\n]{1,128})>",
        param_open=r"<parameter=(?P<key>[^>\n]{1,200})>",
        param_close=r"</parameter>",
        call_close=r"</function>",
        begins=("<function=", "<parameter=", "</function>"),
        block_open=f"<{block}>",
        block_close=f"</{block}>",
        newlines=newlines,
    )


def _invoke(dialect: str, blocks: str, opens: tuple[str, ...], mark: str = "") -> Tags:
    """``<invoke name="…"><parameter name="…">…``; ``mark`` stands before every tag's name."""
    plain = opens[0][: opens[0].index("DSML") + 5] if mark else "<"
    return Tags(
        dialect,
        opens,
        call_open=rf'<{mark}invoke\s+name="(?P<name>[^"\n]{{1,128}})"[^>\n]{{0,500}}>',
        param_open=rf'<{mark}parameter\s+name="(?P<key>[^"\n]{{1,200}})"'
        r'(?:\s+string="(?P<type>true|false)")?[^>\n]{0,500}>',
        param_close=rf"</{mark}parameter>",
        call_close=rf"</{mark}invoke>",
        begins=(f"{plain}invoke name=", f"{plain}parameter name=", f"{plain}/invoke>"),
        block_open=rf"<{mark}(?:{blocks})>",
        block_close=rf"</{mark}(?:{blocks})>",
        raw_types=frozenset({"true"}),
        known_unwrapped=True,
    )


def _keyed(dialect: str, call: str, *, sep: str = "", block: str = "", prefix: str = "") -> Tags:
    """``<CALL>name<arg_key>…</arg_key><arg_value>…</arg_value></CALL>``."""
    return Tags(
        dialect,
        (f"<{block or call}>",),
        call_open=rf"<{call}>\s*{_NAME}\s*{sep}(?=\s*<)",
        param_open=rf"<{prefix}arg_key>(?P<key>[^<\n]{{1,200}})</{prefix}arg_key>\s*"
        rf"<{prefix}arg_value>",
        param_close=rf"</{prefix}arg_value>",
        call_close=rf"</{call}>",
        begins=(f"<{prefix}arg_key>", f"</{call}>", *((f"<{call}>",) if block else ())),
        block_open=f"<{block}>" if block else "",
        block_close=f"</{block}>" if block else "",
        known_when_empty=not sep,
        partial=re.compile(
            rf"(?:<{block or call}>\s*)+[\w.\-/]{{0,128}}\s*(?:<(?!{call}>)[^>]{{0,300}})?"
            rf"(?:<{prefix}arg_key>[^<\n]{{0,200}}(?:</[\w]{{0,30}}>?\s*)?(?:<[\w]{{0,30}})?)?"
        ),
    )


def _special(dialect: str, item: str, tail: str, partial: str, gap: str = "▁") -> Named:
    """DeepSeek's: a section of calls, each between two special tokens.

    ``gap``: what stands between the words of a token; distilled models spell it as they can.
    """

    def spelt(pattern: str) -> re.Pattern[str]:
        return re.compile(pattern.replace("▁", re.escape(gap)))

    return Named(
        dialect,
        (f"<｜tool{gap}calls{gap}begin｜>", f"<｜tool{gap}call{gap}begin｜>"),
        begin=spelt(r"<｜tool▁calls▁begin｜>"),
        item=spelt(r"\s*" + item),
        tail=spelt(tail),
        end=spelt(r"\s*<｜tool▁calls▁end｜>"),
        partial=spelt(partial),
        unit=(f"<｜tool{gap}call{gap}begin｜>", f"<｜tool{gap}call{gap}end｜>"),
    )


_D = r"[｜|]{1,2}DSML[｜|]{1,2}\s?"


_DSML = (
    "<｜DSML｜function_calls>",
    "<｜DSML｜tool_calls>",
    "<|DSML|function_calls>",
    "<|DSML|tool_calls>",
    "<｜｜DSML｜｜tool_calls>",
)
_TOOL_CALL = ("<tool_call>",)
_TOOL_CALL_END = ("</tool_call>",)
#: Some servers print a space between special tokens.
_PLUGIN = (
    "<|action_start|><|plugin|>",
    "<|action_start|> <|plugin|>",
    "<|action_start|>\n<|plugin|>",
)
_DECLINES = frozenset({"directly_answer", "directly-answer"})

TABLE: dict[str, Dialect] = {
    "harmony": Dialect(
        "gpt-oss: `<|channel|>commentary to=functions.f <|constrain|>json<|message|>{…}<|call|>`",
    ),
    "phi-4": Dialect(
        'Phi-4-mini, FireFunction: `functools[{"name": …, "arguments": {…}}]`, '
        "`<|tool_call|>[…]<|/tool_call|>`",
        (
            Objects("phi-4", ("<|tool_call|>",), ("<|/tool_call|>",), needs="<|/tool_call|>"),
            Objects("phi-4", ("functools[",), only_array=True, line=True),
        ),
    ),
    "granite": Dialect(
        'Granite 3 and 4, 20B: `<|tool_call|>[{"name": …, "arguments": {…}}]`, `<tool_call>[…]`, '
        "`<function_call> {…}`",
        (
            Objects("granite", ("<|tool_call|>",)),
            Objects("granite", _TOOL_CALL, _TOOL_CALL_END, only_array=True),
            Objects("granite", ("<function_call>",), ("</function_call>",)),
        ),
    ),
    "hermes": Dialect(
        'Hermes, Qwen2.5, Qwen3, Granite 4: `<tool_call>{"name": …, "arguments": {…}}</tool_call>`',
        (Objects("hermes", _TOOL_CALL, _TOOL_CALL_END),),
    ),
    "llama3-function": Dialect(
        "Llama 3.1 with custom tools, Functionary 3.1: `<function=f>{…}</function>`",
        (
            Named(
                "llama3-function",
                ("<function=",),
                begin=_EMPTY,
                item=re.compile(rf"\s*<function={_NAME}>(?=\s*(?:\{{\s*[\"'}}]|\Z))"),
                tail=re.compile(r"\s*</function>"),
                end=_EMPTY,
                partial=re.compile(r"<function=[\w.\-/]{0,128}>?\s*\{?\s*"),
                unit=("<function=", "</function>"),
            ),
        ),
    ),
    "qwen3-coder": Dialect(
        "Qwen3-Coder, Qwen3.5, Nemotron 3, Step 3.5: "
        "`<tool_call><function=f><parameter=a>…</parameter></function></tool_call>`",
        (_qwen("qwen3-coder", "tool_call", newlines=True),),
    ),
    "glm-4.5": Dialect(
        "GLM 4.5 to 5: `<tool_call>f<arg_key>a</arg_key><arg_value>…</arg_value></tool_call>`",
        (_keyed("glm-4.5", "tool_call"),),
    ),
    "mistral-v11": Dialect(
        "Mistral Small 3.2, Magistral, Devstral: `[TOOL_CALLS]f[CALL_ID]…[ARGS]{…}`",
        (
            Named(
                "mistral-v11",
                ("[TOOL_CALLS]",),
                begin=_EMPTY,
                item=re.compile(
                    rf"\s*\[TOOL_CALLS\]\s*{_NAME}\s*"
                    r"(?:\[CALL_ID\]\s*(?P<id>[\w\-]{1,64})\s*)?"
                    r"(?:\[ARGS\]|(?=\{))"
                ),
                tail=_EMPTY,
                end=_EMPTY,
                partial=re.compile(
                    r"\[TOOL_CALLS\]\s*(?:[^\W\d][\w.\-/]{0,127}\s*)?"
                    r"(?:\[[A-Z_]{0,7}\]?[\w\-]{0,64})?\s*(?:\[[A-Z]{0,4}\]?)?\s*"
                ),
                unit=("[TOOL_CALLS]", ""),
            ),
        ),
    ),
    "mistral": Dialect(
        'Mistral 7B v0.3, Nemo, Large, Small 3.1: `[TOOL_CALLS] [{"name": …, "arguments": {…}}]`',
        (Objects("mistral", ("[TOOL_CALLS]",)),),
    ),
    "deepseek-v3": Dialect(
        "DeepSeek V3, R1: `<｜tool▁call▁begin｜>function<｜tool▁sep｜>f`, a line, then "
        "a fence of JSON",
        tuple(
            _special(
                "deepseek-v3",
                rf"<｜tool▁call▁begin｜>\s*(?:function)?\s*<｜tool▁sep｜>\s*{_NAME}"
                r"\s*(?:```(?:json)?)?(?=\s*(?:\{|\Z))",
                r"\s*(?:```)?\s*(?:<｜tool▁call▁end｜>|(?<=```)\s*\Z)",
                r"<｜tool▁call▁begin｜>\s*(?:f[a-z]{0,7}\s*(?:<｜tool▁sep｜>\s*[\w.\-/]{0,128}[\s`json]{0,20})?)",
                gap,
            )
            for gap in ("▁", "_", " ", "\\_")
        ),
    ),
    "deepseek-v3.1": Dialect(
        "DeepSeek V3.1: `<｜tool▁call▁begin｜>f<｜tool▁sep｜>{…}<｜tool▁call▁end｜>`",
        (
            _special(
                "deepseek-v3.1",
                rf"<｜tool▁call▁begin｜>\s*{_NAME}\s*<｜tool▁sep｜>",
                r"\s*<｜tool▁call▁end｜>",
                r"<｜tool▁call▁begin｜>\s*[\w.\-/]{0,128}\s*(?:<[^{>]{0,20})?",
            ),
        ),
    ),
    "deepseek-v3.2": Dialect(
        "DeepSeek V3.2 and V4: `<｜DSML｜function_calls><｜DSML｜invoke name=…>"
        "<｜DSML｜parameter name=… string=…>`",
        (_invoke("deepseek-v3.2", r"function_calls|tool_calls", _DSML, _D),),
    ),
    "kimi-k2": Dialect(
        "Kimi K2: `<|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>{…}"
        "<|tool_call_end|>`",
        (
            Named(
                "kimi-k2",
                (
                    "<|tool_calls_section_begin|>",
                    "<|tool_call_section_begin|>",
                    "<|tool_call_begin|>",
                ),
                begin=re.compile(r"<\|tool_calls?_section_begin\|>"),
                item=re.compile(
                    rf"\s*<\|tool_call_begin\|>\s*(?P<id>(?:functions\.)?{_NAME}(?::\d+)?)\s*"
                    r"<\|tool_call_argument_begin\|>"
                ),
                tail=re.compile(r"\s*<\|tool_call_end\|>"),
                end=re.compile(r"\s*<\|tool_calls?_section_end\|>"),
                partial=re.compile(
                    r"<\|tool_call_(?:b[a-z|>]{0,6}|begin\|>\s*[\w.\-/:]{0,140}\s*(?:<[^{>]{0,30})?)"
                ),
                unit=("<|tool_call_begin|>", "<|tool_call_end|>"),
            ),
        ),
    ),
    "kimi-k3": Dialect(
        'Kimi K3: `<|open|>call tool="f"<|sep|><|open|>argument key="a" type="string"<|sep|>…`',
        (
            Tags(
                "kimi-k3",
                ("<|open|>tools<|sep|>", "<|open|>call "),
                call_open=r'<\|open\|>call tool="(?P<name>[^"\n]{1,128})"[^<>\n]{0,100}<\|sep\|>',
                param_open=r'<\|open\|>argument key="(?P<key>[^"\n]{1,200})"'
                r'(?: type="(?P<type>\w{1,20})")?<\|sep\|>',
                param_close=r"<\|close\|>argument<\|sep\|>",
                call_close=r"<\|close\|>call<\|sep\|>",
                begins=("<|open|>call ", "<|open|>argument ", "<|close|>call<|sep|>"),
                block_open=r"<\|open\|>tools<\|sep\|>",
                block_close=r"<\|close\|>tools<\|sep\|>",
                raw_types=frozenset({"string"}),
                escaped=True,
            ),
        ),
        wrappers=(
            '<|open|>message role="assistant"<|sep|>',
            "<|open|>response<|sep|>",
            "<|close|>response<|sep|>",
            "<|close|>message<|sep|>",
            "<|end_of_msg|>",
        ),
    ),
    "minimax-m2": Dialect(
        "MiniMax M2: `<minimax:tool_call><invoke name=…><parameter name=…>…</parameter></invoke>"
        "</minimax:tool_call>`",
        (_invoke("minimax-m2", "minimax:tool_call", ("<minimax:tool_call>",)),),
    ),
    "invoke": Dialect(
        "models trained on Claude's calls: `<function_calls><invoke name=…><parameter name=…>…`",
        (_invoke("invoke", "function_calls", ("<function_calls>", "<invoke name=")),),
    ),
    "olmo3": Dialect(
        "OLMo 3: `<function_calls>`, calls `f(a=1)` on lines of their own, `</function_calls>`",
        (Pythonic("olmo3", ("<function_calls>",), ("</function_calls>",), lines=True),),
    ),
    "command-r": Dialect(
        'Command R and A: `<|START_ACTION|>[{"tool_name": …, "parameters": {…}}]<|END_ACTION|>`, '
        "`Action:` with a fence of JSON",
        (
            Objects("command-r", ("<|START_ACTION|>",), ("<|END_ACTION|>",), ignored=_DECLINES),
            Objects("command-r", ("Action:",), only_array=True, line=True, ignored=_DECLINES),
        ),
        wrappers=(
            "<|START_RESPONSE|>",
            "<|END_RESPONSE|>",
            "<|START_TEXT|>",
            "<|END_TEXT|>",
        ),
    ),
    "gemma-4": Dialect(
        'Gemma 4: `<|tool_call>call:f{a:<|"|>…<|"|>}<tool_call|>`',
        (Delimited("gemma-4", ("<|tool_call>",), "<tool_call|>", '<|"|>'),),
    ),
    "function-gemma": Dialect(
        "FunctionGemma: `<start_function_call>call:f{a:<escape>…<escape>}<end_function_call>`",
        (
            Delimited(
                "function-gemma", ("<start_function_call>",), "<end_function_call>", "<escape>"
            ),
        ),
    ),
    "internlm2": Dialect(
        'InternLM 2, 2.5 and 3: `<|action_start|><|plugin|>{"name": …, "parameters": {…}}'
        "<|action_end|>`",
        (Objects("internlm2", _PLUGIN, ("<|action_end|>",)),),
    ),
    "hunyuan": Dialect(
        'Hunyuan A13B: `<tool_calls>[{"name": …, "arguments": {…}}]</tool_calls>`; Hunyuan 3: '
        "`<tool_calls><tool_call>f<tool_sep><arg_key>…`",
        (
            Objects("hunyuan", ("<tool_calls>",), ("</tool_calls>",)),
            _keyed("hunyuan", "tool_call", sep="<tool_sep>", block="tool_calls"),
        ),
        wrappers=("<answer>", "</answer>"),
    ),
    "jamba": Dialect(
        'Jamba 1.5, Apriel, MiniMax M1: `<tool_calls>[{"name": …, "arguments": {…}}]</tool_calls>` '
        "(detected as hunyuan)",
        (Objects("jamba", ("<tool_calls>",), ("</tool_calls>",)),),
    ),
    "ernie": Dialect(
        'ERNIE 4.5: `<tool_call>{"name": …, "arguments": {…}}</tool_call>` (detected as hermes)',
        (Objects("ernie", _TOOL_CALL, _TOOL_CALL_END),),
        wrappers=("<response>", "</response>"),
    ),
    "seed-oss": Dialect(
        "Seed-OSS: `<seed:tool_call><function=f><parameter=a>…</parameter></function>"
        "</seed:tool_call>`",
        (_qwen("seed-oss", "seed:tool_call", newlines=False),),
    ),
    "step3": Dialect(
        "Step 3: `<｜tool_call_begin｜>function<｜tool_sep｜><steptml:invoke name=…>"
        "<steptml:parameter name=…>…`",
        (
            Tags(
                "step3",
                ("<｜tool_calls_begin｜>", "<｜tool_call_begin｜>"),
                call_open=rf"<｜tool_call_begin｜>\s*(?:function\s*)?(?:<｜tool_sep｜>\s*(?:{_PLAIN}\s*)?)?"
                r'<steptml:invoke name="(?P<name>[^"\n]{1,128})">',
                param_open=r'<steptml:parameter name="(?P<key>[^"\n]{1,200})">',
                param_close=r"</steptml:parameter>",
                call_close=r"</steptml:invoke>(?:\s*<｜tool_call_end｜>(?:\s*<｜tool_sep｜>)?)?",
                begins=(
                    "<｜tool_call_begin｜>",
                    "<steptml:parameter name=",
                    "</steptml:invoke>",
                ),
                block_open="<｜tool_calls_begin｜>",
                block_close="<｜tool_calls_end｜>",
                partial=re.compile(
                    r"(?:<｜tool_calls_begin｜>\s*)?(?:<｜tool_call_begin｜>\s*[a-z]{0,8}\s*)"
                    r"(?:<｜[a-z_｜>]{0,12}\s*(?:<steptml[^>]{0,160})?)?"
                ),
            ),
        ),
    ),
    "nemotron": Dialect(
        'Nemotron Super and Nano 2: `<TOOLCALL>[{"name": …, "arguments": {…}}]</TOOLCALL>`',
        (Objects("nemotron", ("<TOOLCALL>",), ("</TOOLCALL>",)),),
    ),
    "longcat": Dialect(
        'LongCat: `<longcat_tool_call>{"name": …, "arguments": {…}}</longcat_tool_call>`, or '
        "with `<longcat_arg_key>` and `<longcat_arg_value>`",
        (
            Objects("longcat", ("<longcat_tool_call>",), ("</longcat_tool_call>",)),
            _keyed("longcat", "longcat_tool_call", prefix="longcat_"),
        ),
    ),
    "apertus": Dialect(
        'Apertus: `<|tools_prefix|>[{"f": {…}}]<|tools_suffix|>`',
        (
            Objects(
                "apertus",
                ("<|tools_prefix|>",),
                ("<|tools_suffix|>",),
                only_array=True,
                inverted=True,
            ),
        ),
    ),
    "lfm2": Dialect(
        'LFM 2: `<|tool_call_start|>[f(a="…")]<|tool_call_end|>`',
        (
            Pythonic("lfm2", ("<|tool_call_start|>",), ("<|tool_call_end|>",)),
            Objects("lfm2", ("<|tool_call_start|>",), ("<|tool_call_end|>",)),
        ),
    ),
    "lm-studio": Dialect(
        'LM Studio\'s default: `[TOOL_REQUEST]{"name": …, "arguments": {…}}[END_TOOL_REQUEST]`',
        (Objects("lm-studio", ("[TOOL_REQUEST]",), ("[END_TOOL_REQUEST]",)),),
    ),
    "llama3-json": Dialect(
        'Llama 3.1 to 3.3: `{"name": …, "parameters": {…}}`, with `<|python_tag|>` or without',
        (Objects("llama3-json", ("<|python_tag|>",)),),
        bare=frozenset({"object"}),
    ),
    "llama-pythonic": Dialect(
        "Llama 3.2 and 4: `[f(a=1), g(b=2)]`, with `<|python_start|>` or `<|python_tag|>` or "
        "without",
        (
            Pythonic("llama-pythonic", ("<|python_start|>",), ("<|python_end|>",), lines=True),
            Pythonic("llama-pythonic", ("<|python_tag|>",), lines=True),
        ),
        bare=frozenset({"functions"}),
    ),
    "xlam": Dialect(
        'xLAM 2: `[{"name": …, "arguments": {…}}, …]` as the whole answer',
        (
            Objects("xlam", _TOOL_CALL, _TOOL_CALL_END, only_array=True),
            Objects("xlam", ("[TOOL_CALLS]",), only_array=True),
        ),
        bare=frozenset({"array"}),
    ),
    "json": Dialect(
        "any model: a fence of JSON with a name and arguments",
        bare=frozenset({"fenced json", "whole"}),
    ),
    "gemma-tool-code": Dialect(
        "Gemma 2 and 3: a `tool_code` fence with `f(a=1)`, `print(f(a=1))` or `default_api.f(a=1)`",
        bare=frozenset({"fenced tool_code"}),
    ),
    "gemma-pythonic": Dialect(
        "Gemma 3: `[f(a=1)]`, alone (detected as llama-pythonic) or in a `python` fence",
        bare=frozenset({"fenced functions", "functions"}),
    ),
    "react": Dialect(
        "prompts in the style of ReAct: `Action: f`, then `Action Input: {…}`",
        bare=frozenset({"react"}),
    ),
}

#: Names of the dialects, each with who speaks it and how.
DIALECTS: dict[str, str] = {name: each.about for name, each in TABLE.items()}
