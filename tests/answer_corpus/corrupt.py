"""Makes false citations from true ones.

Invariant: what comes out differs from the true row in one respect only, that of its kind; the same
seed gives the same rows. It shares no code with the checker that it tests.
"""

import random
import re
from collections.abc import Mapping

KINDS = ("wrong-id", "number", "quote", "negation")

_WORDS = "zero one two three four five six seven eight nine ten eleven twelve"
WORDS = _WORDS.split()
DIGITS = re.compile(r"(?<![\w.#])\d[\d,]*(?:\.\d+)?(?![\w]*[#_])")
NUMBER_WORD = re.compile(rf"\b(?:{'|'.join(WORDS[2:])})\b", re.IGNORECASE)
AUXILIARY = re.compile(
    r"\b(is|are|was|were|can|may|must|should|will|has to|have to|could|would)\b(?! not\b)"
)
#: First found, first undone: what makes a sentence negative, and what it becomes without that.
UNDONE = (
    (r"\bcannot\b", "can"),
    (r"\bcould not\b", "could"),
    (r"\b(does|do|did) not ", r"\1 "),
    (r"\bdon't ", ""),
    (r"\b(is|are|was|were|may|must|would|will|can) (?:not|never)\b", r"\1"),
    (r"\bno longer\b", "still"),
    (r"\bnever\b", "always"),
    (r"\bnobody\b", "everybody"),
    (r"\bNobody\b", "Everybody"),
    (r"\bwithout\b", "with"),
    (r"\bneither (.*) nor\b", r"both \1 and"),
    (r"\bbut not\b", "and also"),
    (r"\bnot\b ?", ""),
    (r"\bNo\b(?!-)", "Every"),
    (r"\bno\b(?!-)", "every"),
)
SWAPPED = {
    "before": "after", "after": "before", "first": "last", "lower": "higher", "higher": "lower",
    "more": "less", "less": "more", "above": "below", "below": "above", "enabled": "disabled",
    "disabled": "enabled", "increased": "decreased", "decreased": "increased", "larger": "smaller",
    "rose": "fell", "fell": "rose", "most": "least", "minimum": "maximum", "maximum": "minimum",
    "earlier": "later", "longer": "shorter", "faster": "slower", "slower": "faster",
    "under": "over", "over": "under", "optional": "required", "always": "never",
}  # fmt: skip
_VERBS = """
    account accepts adds affected allows applies asks assumes becomes begins binds blocks breaks
    burns cancels carries collapses comes copes copies costs counts create creates defaults deletes
    delivers drains draws eats ends exist exists exceeds expands falls fell fledge follow follows
    gives give goes grew groups had has have held hit holds hunt include includes increased inserts
    install keeps knows lacks lasts leaves lost makes make measures need needs overwrites pays
    prevents promised provides pushes raise raises ran reach reaches recorded redelivers
    refers rejected removes repeats report reports retreated returns return rises rose rounds runs
    saved saw serves set shows skips sold sorts spans starts stays stops strips supports support
    survives take takes tests tripled uses voted works yielded yields
"""
VERBS = frozenset(_VERBS.split())


#: Words that lose their capital inside a sentence.
STARTERS = frozenset(["A", "An", "The", "If", "In", "With", "By", "From", "Between", "Only", "At"])


def corrupt(rows: list[dict], passages: Mapping[str, dict], per_kind: int, seed: int) -> list[dict]:
    """``per_kind`` rows of each kind, each from a true row of its own kind's turn."""
    rng = random.Random(seed)
    made: list[dict] = []
    for kind in KINDS:
        order = rng.sample(rows, len(rows))
        candidates = (MAKERS[kind](row, passages, rng) for row in order)
        made += [
            {"kind": kind, "from": row["text"], **new}
            for row, new in zip(order, candidates)
            if new is not None
        ][:per_kind]
    return made


def wrong_id(row: dict, passages: Mapping[str, dict], rng: random.Random) -> dict:
    """An id that nobody has, another passage under the same quote, or another passage's words."""
    first, *others = row["citations"]
    source = first["passage"].split("#")[0]
    strangers = sorted(p for p in passages if p.split("#")[0] != source)
    stranger = rng.choice(strangers)
    new = rng.choice(
        [
            {**first, "passage": f"{source}#{rng.randint(40, 99)}"},
            {**first, "passage": stranger},
            {"passage": stranger, "quote": _long_sentence(passages[stranger]["text"], rng)},
        ]
    )
    # Words of a stranger beside a good citation would only be one too many.
    return {"text": row["text"], "citations": [new] if "#" in new["passage"] else [new, *others]}


def _long_sentence(text: str, rng: random.Random) -> str:
    sentences = [s for s in re.split(r"(?<=[.])\s+(?=[A-Z])", text) if 5 < len(s.split()) < 40]
    return rng.choice(sentences[:12])


def number(row: dict, passages: Mapping[str, dict], rng: random.Random) -> dict | None:
    """One number of the finding is another, which the cited passages do not have at all."""
    text: str = row["text"]
    found = list(DIGITS.finditer(text)) + list(NUMBER_WORD.finditer(text))
    rng.shuffle(found)
    cited = " ".join(passages[c["passage"]]["text"] for c in row["citations"]).lower()
    for match in found:
        for _ in range(8):
            new = _other(match[0], rng)
            if not re.search(rf"(?<![\w.]){re.escape(new)}(?![\w])", cited) and new not in text:
                changed = text[: match.start()] + new + text[match.end() :]
                return {"text": changed, "citations": row["citations"]}
    return None


def _other(number: str, rng: random.Random) -> str:
    """Another one that looks alike: off by a little, ten times as much, digits exchanged."""
    if number.lower() in WORDS:
        return rng.choice([w for w in WORDS[2:] if w != number.lower()])
    digits = number.replace(",", "")
    decimals = len(digits.partition(".")[2])
    if len(digits) > 2 and digits.isdigit() and rng.random() < 0.3:
        swapped = digits[:-2] + digits[-1] + digits[-2]
        if swapped != digits:
            return swapped
    step = rng.choice([1, 2, 5, 10]) * 10**-decimals
    value = rng.choice([float(digits) + step, abs(float(digits) - step), float(digits) * 10])
    return f"{value:.{decimals}f}"


def quote(row: dict, passages: Mapping[str, dict], rng: random.Random) -> dict | None:
    """The quote says what its passage does not: a word changed, left out, put in, or turned."""
    first, *others = row["citations"]
    words = first["quote"].split()
    long = [i for i, word in enumerate(words) if len(re.sub(r"\W", "", word)) > 3]
    if not long:
        return None
    at = rng.choice(long)
    way = rng.randrange(4)
    if way == 0:
        pool = re.findall(r"[a-z]{5,}", passages[rng.choice(sorted(passages))]["text"])
        words[at] = rng.choice(sorted(set(pool) - {words[at].lower()}))
    elif way == 1 and 0 < at < len(words) - 1:
        del words[at]
    elif way == 2:
        words.insert(at, rng.choice(["not", "never", "always", "only", "partly"]))
    else:
        words[at : at + 1] = [words[at], words[at]] if len(words) == 1 else [words[at], "hardly"]
    new = " ".join(words)
    text = passages[first["passage"]]["text"]
    if " ".join(re.findall(r"\w+", new.lower())) in " ".join(re.findall(r"\w+", text.lower())):
        return None
    return {"text": row["text"], "citations": [{**first, "quote": new}, *others]}


def negation(row: dict, passages: Mapping[str, dict], rng: random.Random) -> dict:
    """The finding says the opposite of itself."""
    return {"text": _opposite(row["text"], rng), "citations": row["citations"]}


def _opposite(text: str, rng: random.Random) -> str:
    for pattern, positive in UNDONE:
        if re.search(pattern, text):
            return re.sub(pattern, positive, text, count=1)
    swaps = [w for w in re.findall(r"\w+", text) if w in SWAPPED]
    if swaps and rng.random() < 0.5:
        word = rng.choice(swaps)
        return re.sub(rf"\b{word}\b", SWAPPED[word], text, count=1)
    if match := AUXILIARY.search(text):
        word = match[1]
        new = {"has to": "does not have to", "have to": "do not have to"}.get(word, f"{word} not")
        return text[: match.start()] + new + text[match.end() :]
    for match in re.finditer(r"\b[a-z]+\b", text):
        if match[0] in VERBS:
            return text[: match.start()] + _denied(match[0]) + text[match.end() :]
    start = text[0].lower() if text.split(maxsplit=1)[0] in STARTERS else text[0]
    return f"It is not true that {start}{text[1:]}"


def _denied(verb: str) -> str:
    if verb in ("has", "had", "have"):
        return {"has": "does not have", "had": "did not have", "have": "do not have"}[verb]
    if verb.endswith("s"):
        ending = "y" if verb.endswith("ies") else ""
        return f"does not {re.sub('ies$|(?<=ch)es$|(?<=sh)es$|s$', ending, verb)}"
    return f"never {verb}"


MAKERS = {"wrong-id": wrong_id, "number": number, "quote": quote, "negation": negation}
