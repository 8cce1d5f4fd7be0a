"""What a strict server finds wrong with a request: the check for a poisoned history.

Invariant: nothing here is a matter of taste. Each rule is one whose breach a server in use (vLLM,
llama.cpp, OpenAI, Mistral) answers with status 400, at this turn and at every later one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NoReturn, cast

from jsonschema import Draft202012Validator, SchemaError

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})


def violations(body: bytes) -> list[str]:
    """Everything that is wrong with the request, in words; empty where nothing is."""
    try:
        found: Any = json.loads(body.decode(), parse_constant=_refuse)
    except ValueError as error:
        return [f"the request is not JSON: {error}"]
    if not isinstance(found, dict):
        return ["the request is not a JSON object"]
    request = cast(dict[str, Any], found)
    return [
        *(["the request holds half of a surrogate pair"] if _halved(found) else []),
        *_tools(request),
        *_choice(request),
        *_format(request),
        *_messages(request.get("messages")),
    ]


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _halved(found: Any) -> bool:
    """An escaped half of a surrogate pair is JSON to Python and an error elsewhere."""
    try:
        json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


# -------------------------------------------------------------------- tools and settings


def _tools(request: dict[str, Any]) -> Iterator[str]:
    if "tools" not in request:
        return
    if not isinstance(request["tools"], list) or not request["tools"]:
        yield f"tools is {request['tools']!r}, not a list of at least one"
        return
    names: list[Any] = []
    for each in cast(list[Any], request["tools"]):
        tool = cast(dict[str, Any], each) if isinstance(each, dict) else {}
        function = cast(dict[str, Any], tool.get("function") or {})
        names.append(function.get("name"))
        if tool.get("type") != "function" or not _fits(names[-1]):
            yield f"a tool of type {tool.get('type')!r} called {names[-1]!r}"
        yield from _schema(f"parameters of {names[-1]!r}", function.get("parameters"))
    if len(set(names)) < len(names):
        yield f"two tools of one name: {names}"


def _fits(name: Any) -> bool:
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def _schema(what: str, schema: Any) -> Iterator[str]:
    if schema is not None and (problem := _schema_problem(json.dumps(schema))):
        yield f"{what}: not a JSON schema: {problem}"


@lru_cache(maxsize=256)
def _schema_problem(schema: str) -> str:
    try:
        Draft202012Validator.check_schema(json.loads(schema))
    except SchemaError as error:
        return error.message
    return ""


def _choice(request: dict[str, Any]) -> Iterator[str]:
    choice = request.get("tool_choice")
    if choice is None or choice in ("auto", "none", "required"):
        return
    chosen = cast(dict[str, Any], choice) if isinstance(choice, dict) else {}
    named: dict[str, Any] = chosen.get("function") or {}
    known = [tool.get("function", {}).get("name") for tool in request.get("tools") or ()]
    if named.get("name") not in known:
        yield f"tool_choice {choice!r} names no tool of the request"


def _format(request: dict[str, Any]) -> Iterator[str]:
    asked: dict[str, Any] = request.get("response_format") or {}
    if asked.get("type") == "json_schema":
        form: dict[str, Any] = asked.get("json_schema") or {}
        yield from _schema("response_format", form.get("schema"))


# -------------------------------------------------------------------- messages


def _messages(found: Any) -> Iterator[str]:
    if not isinstance(found, list) or not found:
        yield "no messages"
        return
    seen: set[str] = set()
    waiting: list[str] = []  # ids of calls that have no result yet
    role = ""
    for at, each in enumerate(cast(list[Any], found)):
        message = cast(dict[str, Any], each) if isinstance(each, dict) else {}
        role = str(message.get("role"))
        where = f"message {at} ({role})"
        yield from _shape(where, message, at)
        if role == "tool":
            given = str(message.get("tool_call_id"))
            if given in waiting:
                waiting.remove(given)
            else:
                yield f"{where}: the result of {given!r}, which is not a call just before it"
            continue
        if waiting:
            yield f"{where}: calls before it have no result: {waiting}"
        waiting = []
        if role == "assistant":
            for problem, given in _calls(where, message.get("tool_calls"), seen):
                waiting += [given] if given else []
                yield from [problem] if problem else []
    if waiting:
        yield f"at the end: calls have no result: {waiting}"
    if role == "assistant":
        yield "the last message is the assistant's own"


def _shape(where: str, message: dict[str, Any], at: int) -> Iterator[str]:
    role, content = message.get("role"), message.get("content")
    if role not in _ROLES:
        yield f"{where}: no such role"
    if role in ("system", "developer") and at:
        yield f"{where}: a system message that is not the first"
    if content is not None and not isinstance(content, str | list):
        yield f"{where}: content is a {type(content).__name__}"
    if content is None and role != "assistant":
        yield f"{where}: no content"
    if role == "assistant" and not content and not message.get("tool_calls"):
        yield f"{where}: neither content nor calls"


def _calls(where: str, calls: Any, seen: set[str]) -> Iterator[tuple[str, str]]:
    """What is wrong with each call ('': nothing), and its id."""
    if calls is None:
        return
    if not isinstance(calls, list) or not calls:
        yield f"{where}: tool_calls is {calls!r}, not a list of at least one", ""
        return
    for each in cast(list[Any], calls):
        made = cast(dict[str, Any], each) if isinstance(each, dict) else {}
        function = cast(dict[str, Any], made.get("function") or {})
        given = made.get("id")
        named = given if isinstance(given, str) else ""
        if not named or named in seen:
            yield f"{where}: the id {given!r} of a call is missing or not its own", named
        elif made.get("type") != "function" or not _fits(function.get("name")):
            yield f"{where}: a call of {function.get('name')!r} of type {made.get('type')!r}", named
        else:
            yield _arguments(where, function.get("arguments")), named
        seen.add(named)


def _arguments(where: str, text: Any) -> str:
    try:
        found = json.loads(text, parse_constant=_refuse)
    except (TypeError, ValueError):
        return f"{where}: the arguments of a call are not JSON text: {text!r}"
    if _halved(found):
        return f"{where}: the arguments of a call hold half of a surrogate pair: {text!r}"
    return "" if isinstance(found, dict) else f"{where}: arguments that are no object: {text!r}"
