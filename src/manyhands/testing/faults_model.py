"""Rows of the failure table: what the model does wrong, while its server does all right."""

from __future__ import annotations

from functools import partial

from manyhands.agents.report import Ending, ReportStatus
from manyhands.testing.faults_acts import ALWAYS, RIGHT, Act, called, said
from manyhands.testing.faults_table import By, Fault, Group, Stage
from manyhands.testing.faults_task import ARGUMENTS, FLOOR, KEY, LOOK, Talk, call, encode

TAKEN, TOLD = By.TAKEN, By.TOLD

_arguments = partial(Fault, Group.ARGUMENTS)
_stopped = partial(Fault, Group.STOPPED)
_text = partial(Fault, Group.TEXT)

# -------------------------------------------------------------------- tool arguments

_CUT = f'{{"floor":{FLOOR},"key":"Grün-7'  # closed by force it is another key, which exists

_ARGUMENTS = (
    _arguments(
        "arguments-no-json",
        "`key=…, floor=…`: no JSON",
        called(f"key={KEY}, floor={FLOOR}"),
        by=TOLD,
    ),
    _arguments("arguments-cut", "JSON that breaks off inside a string", called(_CUT), by=TOLD),
    _arguments(
        "arguments-wrong-type",
        "a word where a number belongs",
        called(encode({**ARGUMENTS, "floor": "the second"})),
        by=TOLD,
    ),
    _arguments(
        "arguments-number-text",
        'the number as text: `"2"`',
        called(encode({**ARGUMENTS, "floor": str(FLOOR)})),
        by=TAKEN,
    ),
    _arguments(
        "arguments-lossy",
        "2.9 where a whole number belongs",
        called(encode({**ARGUMENTS, "floor": FLOOR + 0.9})),
        by=TOLD,
    ),
    _arguments(
        "arguments-missing",
        "a required argument is left out",
        called(encode({"key": KEY})),
        by=TOLD,
    ),
    _arguments(
        "arguments-extra",
        "an argument that the tool does not have",
        called(encode({**ARGUMENTS, "city": "Bern"})),
        by=TOLD,
    ),
    _arguments(
        "tool-unknown", "a tool that was not offered", called(name="lookup_number"), by=TOLD
    ),
    _arguments("tool-namespaced", "`functions.look` for `look`", called(name=f"functions.{LOOK}")),
    _arguments("arguments-encoded-twice", "JSON text inside of JSON text", called(encode(RIGHT))),
    _arguments("arguments-list", "a list, not an object", called(encode([KEY, FLOOR])), by=TOLD),
    _arguments("arguments-null", "`null`", called("null"), by=TOLD),
    _arguments("arguments-empty", "nothing at all", called(""), by=TOLD),
    _arguments("arguments-fenced", "JSON in a fenced block", called(f"```json\n{RIGHT}\n```")),
    _arguments(
        "arguments-twice",
        "two objects, one after the other",
        called(RIGHT + encode({"floor": 3, "key": "Blau"})),
    ),
    _arguments("arguments-python", "a Python dict: single quotes", called(repr(dict(ARGUMENTS)))),
    _arguments(
        "arguments-nan",
        "NaN where a number belongs",
        called(f'{{"key":"{KEY}","floor":NaN}}'),
        by=TOLD,
    ),
    _arguments(
        "arguments-surrogate",
        "half of a surrogate pair in a string",
        called(f'{{"key":"{KEY}\\ud83d","floor":{FLOOR}}}'),
        by=TOLD,
    ),
)

# -------------------------------------------------------------------- empty or stopped


def _wrong_answer(talk: Talk) -> Act:
    return Act(*talk.answer("unknown"))


def _made_up(talk: Talk) -> Act:
    return Act(*talk.answer(123_456))


_PROMISE = f"I will now call the tool `{LOOK}` to find the number of {KEY}."

_STOPPED = (
    _stopped("empty", "an empty reply", said(""), by=TOLD),
    _stopped("whitespace", "a reply of blanks and line ends", said(" \n\n \t\n"), by=TOLD),
    _stopped("promised", "`I will now call the tool`, and no call", said(_PROMISE), by=TOLD),
    _stopped(
        "asks",
        "a question in place of a call",
        said("Which building do you mean? Shall I go on?"),
        by=TOLD,
    ),
    _stopped(
        "stop-beside-call", "a call, and `finish_reason` is `stop`", called(finish="stop"), by=TAKEN
    ),
    _stopped(
        "call-announced",
        "`finish_reason` is `tool_calls`, and there is no call",
        said("", "tool_calls"),
        by=TOLD,
    ),
    _stopped(
        "calls-empty",
        "a text beside an empty list of calls",
        said(_PROMISE, "tool_calls", tool_calls=[]),
        by=TOLD,
    ),
    _stopped(
        "cut-text",
        "a text that was cut at the token limit",
        said("To find the number I first have to think about what a floor", "length"),
        by=TOLD,
    ),
    _stopped(
        "cut-call", "a call that was cut at the token limit", called(_CUT, finish="length"), by=TOLD
    ),
    _stopped(
        "filtered",
        "a content filter held the reply back",
        said(None, "content_filter"),
        ends=Ending.FILTERED,
    ),
    _stopped(
        "answer-early",
        "an answer before any call, made up",
        _made_up,
        typed=True,
        by=TOLD,
    ),
    _stopped(
        "refused", "a refusal as text", said("I'm sorry, but I can't help with that."), by=TOLD
    ),
    _stopped(
        "refusal", "`refusal` in place of content", said(None, refusal="I cannot help with that.")
    ),
    _stopped(
        "answer-malformed",
        "an answer that does not fit its type",
        _wrong_answer,
        at=Stage.ANSWER,
        typed=True,
        by=TOLD,
    ),
)


# -------------------------------------------------------------------- call in text

_JSON_CALL = encode({"name": LOOK, "arguments": dict(ARGUMENTS)})
_HERMES = f"<tool_call>\n{_JSON_CALL}\n</tool_call>"
_QWEN = (
    f"<tool_call>\n<function={LOOK}>\n<parameter=key>\n{KEY}\n</parameter>\n"
    f"<parameter=floor>\n{FLOOR}\n</parameter>\n</function>\n</tool_call>"
)
_HARMONY = (
    "<|channel|>analysis<|message|>I have to look it up.<|end|><|start|>assistant"
    f"<|channel|>commentary to=functions.{LOOK} <|constrain|>json<|message|>{RIGHT}<|call|>"
)
_DEEPSEEK = (
    "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>"
    f"{LOOK}\n```json\n{RIGHT}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
)

_TEXT = (
    _text(
        "text-hermes",
        "`<tool_call>` with JSON (Hermes, Qwen)",
        said(f"I look it up.\n{_HERMES}"),
        by=TAKEN,
    ),
    _text(
        "text-qwen-coder", "`<function=…>` and `<parameter=…>` (Qwen3-Coder)", said(_QWEN), by=TAKEN
    ),
    _text("text-fenced", "JSON in a fenced block", said(f"```json\n{_JSON_CALL}\n```"), by=TAKEN),
    _text(
        "text-llama",
        "bare JSON with `parameters` (Llama 3)",
        said(encode({"name": LOOK, "parameters": dict(ARGUMENTS)})),
        by=TAKEN,
    ),
    _text(
        "text-pythonic",
        "`[look(key=…)]` (Llama 4, Gemma)",
        said(f"[{LOOK}(key={KEY!r}, floor={FLOOR})]"),
        by=TAKEN,
    ),
    _text(
        "text-mistral", "`[TOOL_CALLS]` (Mistral)", said(f"[TOOL_CALLS][{_JSON_CALL}]"), by=TAKEN
    ),
    _text("text-deepseek", "`<｜tool▁calls▁begin｜>` (DeepSeek V3)", said(_DEEPSEEK), by=TAKEN),
    _text("text-harmony", "channels (gpt-oss)", said(_HARMONY), by=TAKEN),
    _text(
        "text-after-think",
        "a think block, and a call after it",
        said(f"<think>\nI look it up.\n</think>\n\n{_HERMES}"),
        by=TAKEN,
    ),
    _text(
        "text-in-think",
        "a call inside a think block that is never closed",
        said(f"<think>\nI need the number.\n{_HERMES}"),
        by=TAKEN,
    ),
    _text(
        "text-cut",
        "a call in text that breaks off inside a string",
        said(f'<tool_call>\n{{"name":"{LOOK}","arguments":{_CUT}', "length"),
        by=TOLD,
    ),
    _text(
        "text-prose",
        "prose that talks about the tool and its call",
        said(
            f"One could use `{LOOK}` with a key, for example in a <tool_call> block, but which "
            "floor is meant is not clear to me."
        ),
        by=TOLD,
    ),
    _text(
        "reasoning-only",
        "thinking, and an empty reply",
        said("", reasoning_content="I should look it up, then answer."),
        by=TOLD,
    ),
    _text(
        "reasoning-call",
        "a call that the server took for thinking",
        said(None, reasoning_content=f"I need the number.\n{_HERMES}"),
    ),
)

# -------------------------------------------------------------------- never done


def _look_at(key: str, floor: int, talk: Talk) -> Act:
    made = call(LOOK, encode({"floor": floor, "key": key}), at=len(talk.body["messages"]))
    return Act(made, "tool_calls")


def _same(talk: Talk) -> Act:
    return _look_at("Grün", 1, talk)


def _alternating(talk: Talk) -> Act:
    return _look_at("Grün", 1 + talk.count % 2, talk)


def _ever_new(talk: Talk) -> Act:
    return _look_at(f"Blau-{talk.count}", FLOOR, talk)


def _until_forced(talk: Talk) -> Act:
    """It has what it needs and looks on, until there is nothing but to answer."""
    return Act() if talk.forced or talk.found is None else _ever_new(talk)


_endless = partial(Fault, Group.ENDLESS, times=ALWAYS, at=Stage.ANY)

_ENDLESS = (
    _endless("calls-same", "the same call, every turn", _same, ends=Ending.LOOP),
    _endless("calls-alternate", "two calls in turn, every turn", _alternating, ends=Ending.LOOP),
    _endless("calls-new", "another call, every turn", _ever_new, ends=Ending.OUT_OF_TURNS),
    _endless(
        "calls-until-forced",
        "another call until it must answer; then the true answer",
        _until_forced,
        ends=Ending.OUT_OF_TURNS,
        status=ReportStatus.PARTIAL,
    ),
    _endless("empty-always", "an empty reply, every turn", said(""), ends=Ending.EMPTY),
    _endless(
        "promised-always", "a promise of a call, every turn", said(_PROMISE), ends=Ending.UNANSWERED
    ),
    _endless(
        "asks-always", "a question, every turn", said("Which building?"), ends=Ending.QUESTION
    ),
    _endless(
        "refused-always",
        "a refusal, every turn",
        said("I'm sorry, but I can't help with that."),
        ends=Ending.REFUSED,
    ),
    _endless(
        "answer-early-always",
        "an answer without the call, every turn",
        _made_up,
        ends=Ending.UNANSWERED,
        status=ReportStatus.PARTIAL,
        typed=True,
    ),
    _endless(
        "cut-always",
        "a text cut at the token limit, every turn",
        said("To find the number I first have to", "length"),
        ends=Ending.CUT,
    ),
    _endless(
        "arguments-always",
        "arguments that do not fit, every turn",
        lambda talk: called(encode({"key": f"Blau-{talk.count}"})),
        ends=Ending.BAD_CALL,
    ),
    _endless(
        "answer-malformed-always",
        "an answer that does not fit its type, every time",
        _wrong_answer,
        ends=Ending.MALFORMED,
        at=Stage.ANSWER,
        typed=True,
    ),
)

MODEL_FAULTS = (*_ARGUMENTS, *_STOPPED, *_TEXT, *_ENDLESS)
