"""An MCP server without the SDK, as rude as it is told to be. Only the standard library.

``python rude_server.py JSON``: ``tools`` (its list), ``stubborn`` (heeds neither the end of its
input nor SIGTERM), ``mute`` (answers nothing at all), ``child`` (a file: a child of it is started
that holds a lock on it), ``quit`` (ends at once). What a tool does is its name.
"""

import json
import os
import signal
import subprocess
import sys
import time

HOLD = (
    "import fcntl, sys, time; held = open(sys.argv[1], 'w'); fcntl.flock(held, fcntl.LOCK_EX);"
    "open(sys.argv[1] + '.held', 'w').close(); time.sleep(600)"
)


def send(**message):
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)


def answer(request, result):
    send(id=request["id"], result=result)


def text(value):
    return {"content": [{"type": "text", "text": value}]}


def flood(line):
    while True:
        sys.stdout.write(line)


def die(request, arguments):
    print("these are my last words", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def leak(request, arguments):
    print("the key is", os.environ["NAMED"], file=sys.stderr, flush=True)
    os._exit(3)


def chatty(request, arguments):
    sys.stdout.write("Starting up…\n\n{not json}\n")
    print("x" * 3_000_000, file=sys.stderr)
    answer(request, text("still here"))


def once_dead(request, arguments):
    if not os.path.exists(arguments["path"]):
        open(arguments["path"], "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    answer(request, text("alive again"))


NOTICE = json.dumps({"jsonrpc": "2.0", "method": "notifications/x", "params": {}}) + "\n"
ACTS = {
    "die": die,
    "leak": leak,
    "hang": lambda request, arguments: time.sleep(600),
    "flood": lambda request, arguments: flood("x" * 1000 + "\n"),
    "notices": lambda request, arguments: flood(NOTICE),
    "endless": lambda request, arguments: flood("x" * 1000),
    "chatty": chatty,
    "once_dead": once_dead,
    "nonsense": lambda request, arguments: answer(request, {"content": "not a list"}),
    "error": lambda request, arguments: send(
        id=request["id"], error={"code": -32000, "message": "out of order"}
    ),
    "mixed": lambda request, arguments: answer(request, json.loads(arguments["result"])),
    "environment": lambda request, arguments: answer(request, text(json.dumps(dict(os.environ)))),
    "ok": lambda request, arguments: answer(request, text("ok")),
}


def main():
    told = json.loads(sys.argv[1]) if len(sys.argv) > 1 else {}
    if told.get("quit"):
        sys.exit("I will not")
    if told.get("stubborn"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if told.get("child"):
        subprocess.Popen([sys.executable, "-c", HOLD, told["child"]])
    tools = told.get("tools") or [{"name": "ok", "inputSchema": {"type": "object"}}]
    for line in sys.stdin:
        request = json.loads(line)
        method = request.get("method")
        if told.get("mute") or "id" not in request:
            continue
        if method == "initialize":
            version = request["params"]["protocolVersion"]
            info = {"name": "rude", "version": "1"}
            capabilities = {"tools": {}}
            answer(
                request,
                {"protocolVersion": version, "capabilities": capabilities, "serverInfo": info},
            )
        elif method == "tools/list":
            answer(request, {"tools": tools})
        elif method == "tools/call":
            asked = request["params"]
            ACTS.get(asked["name"], ACTS["ok"])(request, asked.get("arguments") or {})
        else:
            send(id=request["id"], error={"code": -32601, "message": "no such method"})
    while told.get("stubborn"):
        time.sleep(600)


main()
