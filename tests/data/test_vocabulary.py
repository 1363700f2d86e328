"""Text split into tokens by any rule and joined again, token ids against a naive look-up, and rules that are none."""

from __future__ import annotations

import re
import sys
from array import array
from itertools import product
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tapegpt import Corpus, TapeGPTError
from tapegpt.data.tokens import Strings
from tapegpt.data.vocabulary import Vocabulary, _pieces, listed

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

SMILES = r"Cl|Br|\[[^]]+\]|."
RULES = [
    "characters",
    "words",
    SMILES,
    "",  # matches nothing, everywhere
    "a*",
    "a*?|ab",
    "(a)(b)?|(?P<c>c+)",
    "(?<=a)b+|a(?=b)|(?!b)[bc]",
    "(?i:AB)|.{3}",
    "(?s)..",
    "^a|b$",
    r"\bab|\Bb",
    "x",
]
FLAG, FAMILY = "\U0001f1eb\U0001f1ee", "\U0001f468\u200d\U0001f469\u200d\U0001f467"
HOSTILE = ["", "\0", "\ud800", "a\ud800b", "\r\n", "e\u0301\u0323", FLAG, FAMILY, "क्षि", f"a{FLAG}{FAMILY} b\n"]
TEXT = st.one_of(
    st.text("abcCl[]Br .\n"),
    st.text(st.characters(exclude_categories=())),
    st.lists(st.sampled_from(HOSTILE)).map("".join),
)


def error(rule: str) -> AbstractContextManager[object]:
    return pytest.raises(TapeGPTError, match=re.escape(rule))


@pytest.mark.parametrize("rule", RULES)
@given(st.lists(TEXT, max_size=4))
@example(HOSTILE)
def test_tokens_are_the_text_and_have_numbers(rule: str, texts: list[str]) -> None:
    vocabulary = Vocabulary.of(texts, rule)
    split = [list(vocabulary.split(text)) for text in texts]
    assert list(map("".join, split)) == texts
    assert list(vocabulary) == sorted({token for tokens in split for token in tokens})
    assert "" not in vocabulary
    ids = [vocabulary.encode(text) for text in texts]
    assert ids == [[vocabulary.tokens.index(token) for token in tokens] for tokens in split]
    assert list(map(vocabulary.decode, ids)) == texts
    tokens, bos = vocabulary.encode_all(vocabulary.split_all(texts)), vocabulary.bos
    assert tokens.ids.tolist() == [bos, *[number for document in ids for number in [*document, bos]]]
    assert [last - first for first, last in zip(tokens.starts, tokens.starts[1:], strict=False)] == [
        len(document) + 1 for document in ids
    ]
    assert vocabulary.characters == "".join(sorted(set("".join(texts))))


@given(st.lists(TEXT, min_size=1), TEXT)
def test_what_is_unknown(texts: list[str], other: str) -> None:
    for rule in ("characters", "words", SMILES):
        vocabulary = Vocabulary.of(texts, rule)
        pieces = vocabulary.split_all([other, *texts])
        unknown = set(vocabulary.split(other)) - set(vocabulary)
        assert vocabulary.unknown(pieces) == unknown
        left = [[piece for piece in each if piece in vocabulary] for each in pieces]
        assert list(map(list, vocabulary.without(unknown, pieces))) == left
        if unknown:
            with error(f"the model does not know {listed(unknown)}"[:60].split("\\")[0]):
                vocabulary.encode(other)
            with error("which the vocabulary does not know: leave that out, or take Vocabulary.of"):
                Corpus([*texts, other], vocabulary).tokens()


@given(st.lists(st.lists(st.integers(0, 3), max_size=3), max_size=5), st.sampled_from(["abcd", "aéßω"]))
def test_generated_strings_are_text(strings: list[list[int]], characters: str) -> None:
    made = Strings.empty(len(strings), 3)
    for number, string in enumerate(strings):
        made.ids[3 * number : 3 * number + len(string)] = array("I", string)
        made.lengths[number] = len(string)
    for vocabulary in (Vocabulary.of(characters), Vocabulary(("a", "ab", "b ", "ω"), "words")):
        assert vocabulary.texts(made) == ["".join([vocabulary[token] for token in string]) for string in strings]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("the cat, 3 dogs", ["the", " cat", ",", " 3", " dogs"]),
        ("a  b\n c", ["a", " ", " b", "\n", " c"]),
        ("don't ...stop", ["don", "'", "t", " ...", "stop"]),
        ("यह हिन्दी है।", ["यह", " हिन्दी", " है", "।"]),
        ("می\u200cشد", ["می\u200cشد"]),
        ("e\u0301te\u0301", ["e\u0301te\u0301"]),
        ("한국어 글", ["한국어", " 글"]),
    ],
)
def test_words_have_the_space_before_them(text: str, tokens: list[str]) -> None:
    assert Vocabulary.of([text], "words").split(text) == tokens


def test_expressions_match_from_the_left() -> None:
    assert Vocabulary((), SMILES).split("CCl[nH]Br1") == ["C", "Cl", "[nH]", "Br", "1"]
    assert Vocabulary((), "b+").split("abbcb") == ["a", "bb", "c", "b"]


@given(TEXT)
@example("".join(HOSTILE))
def test_graphemes_are_what_a_reader_takes_for_one_character(text: str) -> None:
    pytest.importorskip("regex")
    vocabulary = Vocabulary.of([text], "graphemes")
    assert vocabulary.decode(vocabulary.encode(text)) == text
    for one in (FLAG, FAMILY, "e\u0301\u0323", "\r\n"):
        assert vocabulary.split(one) == [one]


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from tapegpt.data import vocabulary

    vocabulary._pattern.cache_clear()
    monkeypatch.setitem(sys.modules, "regex", None)
    with error("regex is not installed: run pip install '.[graphemes]'"):
        Corpus.of(["a"], tokens="graphemes")
    vocabulary._pattern.cache_clear()


@pytest.mark.parametrize("rule", ["(", "[a", "a**", "(?P<a>", "\\", "a{99999999999}", 3, None, ["a"]])
def test_what_is_no_rule_is_one_line(rule: str) -> None:
    with error("give characters, graphemes, words or a regular expression"):
        Corpus.of(["a"], tokens=rule)


@pytest.mark.parametrize("tokens", [("b", "a"), ("a", "a"), ("",), (1,)])
def test_tokens_are_sorted_texts(tokens: tuple[str, ...]) -> None:
    with pytest.raises(TapeGPTError):
        Vocabulary(tokens, "words")


def test_vocabularies_are_joined_by_one_rule() -> None:
    one, other = Vocabulary.of(["a b"], "words"), Vocabulary.of(["a c"], "words")
    assert (one | other).tokens == (" b", " c", "a")
    with error("the documents are split by tokens 'characters', the model's by 'words': give that"):
        one | Vocabulary.of("a")


def test_a_corpus_counts_tokens() -> None:
    texts = ["CCl", "[nH]C", "Br"]
    corpus = Corpus.of(texts, tokens=SMILES)
    assert (corpus.lengths(), corpus.predictions, corpus.vocab_size) == ([2, 2, 1], 8, 5)
    for size, order in product(range(1, 4), (None, [2, 0])):
        windows, whole = corpus.windows(size, order), corpus.tokens(order)
        assert windows.ids == whole.ids
        assert set(whole.starts) <= set(windows.starts)
        assert all(stop - start <= size for start, stop in zip(windows.starts, windows.starts[1:], strict=False))


def test_pieces_are_found_in_one_pass() -> None:
    assert _pieces(re.compile("a*?"), "aab") == ["a", "a", "b"]
