"""The history, as git tells it."""

import subprocess


def git(*arguments):
    options = ("-c", "safe.directory=/app", "-C", "/app")
    done = subprocess.run(["git", *options, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


assert git("rev-parse", "--abbrev-ref", "HEAD").strip() == "main"
assert git("status", "--porcelain") == "", git("status", "--porcelain")
log = [line.split("\t") for line in git("log", "--reverse", "--format=%an\t%s\t%P").splitlines()]
told = [(author, subject) for author, subject, _ in log]
assert told[0] == ("Ada", "Begin the notes"), told
assert sorted(told) == [
    ("Ada", "Add a license"),
    ("Ada", "Add a parser"),
    ("Ada", "Begin the notes"),
    ("Grace", "Note what the parser does"),
], told
subjects = [subject for _, subject in told]
assert subjects.index("Add a parser") < subjects.index("Note what the parser does")
assert all(len(parents.split()) <= 1 for _, _, parents in log), log
assert git("show", "HEAD:LICENSE") == "MIT\n"
assert git("show", "HEAD:notes.txt") == "first note\nthe parser splits at bars\n"
scope = {}
exec(git("show", "HEAD:parser.py"), scope)
assert scope["parse"](" a | b|c ") == ["a", "b", "c"]
changed = git("log", "-1", "--format=", "--name-only", "--grep=Add a parser").split()
assert changed == ["parser.py"], changed
git("fsck", "--strict")
print("ok")
