"""The citation checks on text that nobody wrote by hand."""

from hypothesis import given, settings
from hypothesis import strategies as st

from manyhands.ports import Passage
from manyhands.teams.answer.citations import check_finding
from manyhands.teams.answer.claims import Citation, Finding
from manyhands.teams.answer.contradictions import contradictions
from manyhands.teams.answer.parts import independent_parts, parts_of, unaddressed

_WORDS = (
    "the cache keeps not never 12 3.5 % half increases before after no entry server unless fails"
    " -5 $40 million without than more less disabled is are only until two thirds 3.10 K9"
)
WORDS = st.sampled_from(_WORDS.split())
SENTENCE = st.lists(WORDS, min_size=3, max_size=14).map(
    lambda words: f"Gateways {' '.join(words)} filter."
)


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=200), quote=st.text(max_size=80), passage=st.text(max_size=300))
def test_any_text_is_checked_without_an_exception(text: str, quote: str, passage: str) -> None:
    cited = Passage(id="a#1", source="a", title=quote, text=passage, hash="")
    citations = (Citation(passage="a#1", quote=quote), Citation(passage="b#2", quote=passage))
    check_finding(Finding(text=text, citations=citations), {"a#1": cited, "b#2": None})
    check_finding(Finding(text=text, citations=citations[:1]), {"a#1": cited})
    contradictions({"a": (Finding(text=text),), "b": (Finding(text=passage),)})
    assert independent_parts(text) >= 1
    assert set(unaddressed(text, passage)) <= set(parts_of(text))


@settings(max_examples=200, deadline=None)
@given(sentences=st.lists(SENTENCE, min_size=1, max_size=6), which=st.integers(0, 5))
def test_a_verbatim_sentence_is_never_refused(sentences: list[str], which: int) -> None:
    said = sentences[which % len(sentences)]
    cited = Passage(id="a#1", source="a", title="", text=" ".join(sentences), hash="")
    finding = Finding(text=said, citations=(Citation(passage="a#1", quote=said),))
    assert check_finding(finding, {"a#1": cited}) == ()
