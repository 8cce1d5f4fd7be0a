import argparse
import json
import os
import sys
import tempfile


def load(path):
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        return {"next": 1, "notes": {}}
    except ValueError:
        print(f"{path} is not valid JSON", file=sys.stderr)
        sys.exit(3)


def save(path, data):
    folder = os.path.dirname(os.path.abspath(path))
    handle, name = tempfile.mkstemp(dir=folder)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(data, file)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def show(notes):
    for number, note in sorted(notes, key=lambda pair: int(pair[0])):
        tags = f" [{','.join(sorted(note['tags']))}]" if note["tags"] else ""
        print(f"{number} {note['text']}{tags}")


def parse():
    parser = argparse.ArgumentParser(prog="notes")
    commands = parser.add_subparsers(dest="command", required=True)
    add = commands.add_parser("add")
    add.add_argument("text", nargs="+")
    add.add_argument("--tag", action="append", default=[])
    commands.add_parser("list").add_argument("--tag")
    tag = commands.add_parser("tag")
    tag.add_argument("number", type=int)
    tag.add_argument("tag")
    commands.add_parser("remove").add_argument("number", type=int)
    commands.add_parser("search").add_argument("word")
    return parser.parse_args()


def main():
    asked = parse()
    path = os.environ.get("NOTES_FILE") or "notes.json"
    data = load(path)
    notes = data["notes"]
    if asked.command in ("tag", "remove") and str(asked.number) not in notes:
        print(f"no note {asked.number}", file=sys.stderr)
        sys.exit(1)
    if asked.command == "list":
        show(p for p in notes.items() if asked.tag is None or asked.tag in p[1]["tags"])
        return
    if asked.command == "search":
        show(p for p in notes.items() if asked.word.lower() in p[1]["text"].lower())
        return
    if asked.command == "add":
        number, data["next"] = data["next"], data["next"] + 1
        notes[str(number)] = {"text": " ".join(asked.text), "tags": sorted(set(asked.tag))}
        print(number)
    elif asked.command == "tag":
        note = notes[str(asked.number)]
        note["tags"] = sorted({*note["tags"], asked.tag})
    else:
        del notes[str(asked.number)]
    save(path, data)


main()
