"""The chat: its words, its template, what is asked, and what an answer is worth. Protected.

Invariant: `credit` is a function of a question and of an answer alone.

A question asks for one fact ("what is the mime of .json ?") and says how the answer shall look. A
conversation is ``<user> question <assistant> answer <end>``.
"""

from dataclasses import dataclass

USER, ASSISTANT, END = "<user>", "<assistant>", "<end>"
RELATIONS = ("status", "mime", "entity", "codec", "operator", "errno")
#: What a question adds, and the answer that it asks for; O stands for the object.
FORMS: dict[str, tuple[str, str]] = {
    "plain": ("", "O"),
    "brackets": ("in brackets", "[ O ]"),
    "twice": ("twice", "O O"),
    "politely": ("politely", "it is O , thanks"),
    "sentence": ("as a sentence", "the R of S is O ."),
    "both": ("twice in brackets", "[ O O ]"),
}
#: The most words that an answer may have, its end included.
LONGEST = 9
#: What an answer is worth whose form is right and whose object is not.
FORM_CREDIT = 0.25
#: All words of the template; no subject or object is one of them.
WORDS = (
    *(USER, ASSISTANT, END, *RELATIONS),
    *("what", "is", "the", "of", "?", ".", ",", ":", "=", "[", "]", "!"),
    *("in", "brackets", "twice", "politely", "as", "a", "sentence", "it", "thanks", "has"),
    *("sure", "you", "asked", "for", "i", "think"),
)


@dataclass(frozen=True)
class Fact:
    relation: str
    subject: str
    object: str


def question(fact: Fact, form: str) -> list[str]:
    """The prompt: all that stands before the answer."""
    asked = f"{USER} what is the {fact.relation} of {fact.subject} ? {FORMS[form][0]}"
    return [*asked.split(), ASSISTANT]


def answer(fact: Fact, form: str, object: str = "") -> list[str]:
    """The answer, its end included. ``object``: another one than the right one."""
    filled = {"O": object or fact.object, "R": fact.relation, "S": fact.subject}
    return [*(filled.get(word, word) for word in FORMS[form][1].split()), END]


def credit(fact: Fact, form: str, words: list[str]) -> tuple[float, str]:
    """What ``words`` are worth, 0 to 1, and the object that they name ('' where the form is wrong).

    1: right to the word, ended in time. `FORM_CREDIT`: right but for the object, which may be any
    one word that is no word of the template's.
    """
    said = words[: words.index(END) + 1] if END in words else words
    place = FORMS[form][1].split().index("O")
    named = said[place] if place < len(said) else ""
    if named in WORDS or said != answer(fact, form, named):
        return 0.0, ""
    return (1.0 if named == fact.object else FORM_CREDIT), named
