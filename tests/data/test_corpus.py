"""Reading, counting and numbering characters, against a naive transcript of what microgpt.py does with its file."""

from __future__ import annotations

import codecs
import encodings.aliases
import hashlib
import io
import os
import random
import re
from itertools import count, islice, pairwise
from typing import TYPE_CHECKING, cast

import pytest
from faker import Faker
from hypothesis import example, given
from hypothesis import strategies as st

from tapegpt.data.corpus import Corpus
from tapegpt.data.decoding import _wide
from tapegpt.data.holdout import hold_out
from tapegpt.data.sources import DATASETS, Source
from tapegpt.data.vocabulary import Vocabulary
from tapegpt.data.windows import tilings, window_start
from tapegpt.errors import TapeGPTError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tapegpt.data.tokens import Tokens

delimiter_of = Source.ranges["delimiter"].parse
TEXT = st.text(
    st.one_of(
        st.characters(exclude_categories=["Cs"]),
        st.sampled_from("ab \r\n\t\x0b\x0c\x1c\x1d\x1e\x1f\x85\xa0\u2028\u2029\u3000\ufeff\0"),
    )
).filter(lambda text: not _wide(text.encode()))
LINES = TEXT.filter(lambda text: text.removeprefix("\ufeff").strip())


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("corpus") / "input.txt"


def naive(text: str) -> tuple[list[str], str]:
    """Documents and vocabulary as microgpt.py has them, read by Python's text mode."""
    stream = io.TextIOWrapper(io.BytesIO(text.encode("utf-8")), encoding="utf-8")
    docs = [line.strip() for line in stream if line.strip()]
    return docs, "".join(sorted(set("".join(docs))))


def naive_tokens(corpus: Corpus, documents: list[str]) -> list[list[int]]:
    """The tokens of each document, BOS before and after, as microgpt.py looks them up."""
    place, bos = {character: token for token, character in enumerate(corpus.vocabulary)}, corpus.vocabulary.bos
    return [[bos, *[place[character] for character in document], bos] for document in documents]


def split(tokens: Tokens) -> list[list[int]]:
    return [tokens.ids[tokens.starts[d] : tokens.starts[d + 1] + 1].tolist() for d in range(len(tokens))]


def error(*parts: str) -> AbstractContextManager[object]:
    """One line that says all these things."""
    pattern = ".*".join(f"({part})" for part in parts)
    return pytest.raises(TapeGPTError, match=rf"\A.*{pattern}.*\Z")


# Reading


@given(LINES)
def test_reading_equals_pythons_text_mode(file: Path, text: str) -> None:
    file.write_bytes(text.encode("utf-8"))
    corpus = Corpus.read(file)
    assert (corpus.documents, "".join(corpus.vocabulary)) == naive(text.removeprefix("\ufeff"))
    assert corpus == Corpus.read(str(file))


@example("\0\U000a0000", "utf-32")  # zero bytes, as in UTF-16 without a BOM that is read as another encoding
@given(LINES, st.sampled_from(["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-7", "gb18030"]))
def test_reading_other_encodings(file: Path, text: str, encoding: str) -> None:
    file.write_bytes(text.encode(encoding))
    corpus = Corpus.read(file, encoding=encoding)
    assert (corpus.documents, "".join(corpus.vocabulary)) == naive(text.removeprefix("\ufeff"))


@given(LINES)
def test_a_byte_order_mark_is_no_character(file: Path, text: str) -> None:
    text = text.removeprefix("\ufeff")
    file.write_bytes(codecs.BOM_UTF8 + text.encode("utf-8"))
    corpus = Corpus.read(file)
    assert (corpus.documents, "".join(corpus.vocabulary)) == naive(text)


@pytest.mark.parametrize(
    ("data", "documents"),
    [
        (b"anna\nbob\n", ["anna", "bob"]),
        (b"anna\r\nbob", ["anna", "bob"]),
        (b"anna\rbob\r", ["anna", "bob"]),
        (b"\n\n anna\t \r\n \r \n\x0bbob\x0c", ["anna", "bob"]),
        (b"anna\x0bbob\x0ceve\x1cada", ["anna\x0bbob\x0ceve\x1cada"]),
        ("anna\x85bob\u2028eve".encode(), ["anna\x85bob\u2028eve"]),
        ("\u3000an na\xa0\u2003".encode(), ["an na"]),
        (b"\xef\xbb\xbfanna", ["anna"]),
        (b"anna\nanna", ["anna", "anna"]),
        (b"\0", ["\0"]),
    ],
)
def test_what_a_line_is(tmp_path: Path, data: bytes, documents: list[str]) -> None:
    (tmp_path / "input.txt").write_bytes(data)
    corpus = Corpus.read(tmp_path / "input.txt")
    assert corpus.documents == documents
    assert len(corpus) == len(documents)
    assert corpus.vocab_size == corpus.vocabulary.bos + 1 == len(set("".join(documents))) + 1


def test_the_published_names(shared: Path) -> None:
    path = shared / "data" / "names.txt"
    corpus = Corpus.read(path)
    assert (corpus.documents, "".join(corpus.vocabulary)) == naive(path.read_text())
    assert (len(corpus), corpus.vocabulary.characters) == (32_033, "abcdefghijklmnopqrstuvwxyz")


# Other delimiters


BLANKS = st.text("a \t\r\n\x0b\xa0|", max_size=40)


@given(
    st.one_of(LINES, BLANKS.filter(str.strip)), st.one_of(st.text("a|;\n \t", min_size=1, max_size=3), st.just("\n\n"))
)
def test_documents_between_delimiters(file: Path, text: str, delimiter: str) -> None:
    """Blocks by a regular expression, others by `str.split` of what Python's text mode reads."""
    file.write_bytes(text.encode("utf-8"))
    lines = io.TextIOWrapper(io.BytesIO(text.encode("utf-8")), encoding="utf-8").read().removeprefix("\ufeff")
    pieces = re.split(r"\n(?:[ \t]*\n)+", lines) if delimiter == "\n\n" else lines.split(delimiter)
    documents = [piece.strip() for piece in pieces if piece.strip()]
    if not documents:
        with error("no document in it", "one string a line" if delimiter == "\n" else "text between the delimiters"):
            Corpus.read(file, delimiter=delimiter)
        return
    corpus = Corpus.read(file, delimiter=delimiter)
    assert (corpus.documents, "".join(corpus.vocabulary)) == (documents, "".join(sorted(set("".join(documents)))))
    assert split(corpus.tokens()) == naive_tokens(corpus, documents)


@pytest.mark.parametrize(
    ("data", "delimiter", "documents"),
    [
        (b"a\nb\n\nc\n", "\n", ["a", "b", "c"]),
        (b"a\nb\n\nc\n", "\n\n", ["a\nb", "c"]),
        (b"\n\na\r\n \t\r\n\r\n  b\n c \r\rd", "\n\n", ["a", "b\n c", "d"]),
        (b"a\n\x0b\nb\n\xc2\xa0\nc", "\n\n", ["a\n\x0b\nb\n\xa0\nc"]),
        (b"\xef\xbb\xbf a\r\n\r\nb\n", "", ["a\n\nb"]),
        (b"a<end>\n<end>b\r\nc <end>", "<end>", ["a", "b\nc"]),
        (b"a\r\n--\r\nb--c", "\r\n--\r\n", ["a", "b--c"]),
        (b"a\r\n\r\nb\rc", "\r\n\r\n", ["a", "b\nc"]),
        (b"a\tb \t c\nd", "\t", ["a", "b", "c\nd"]),
        (b"aXaXXa", "X", ["a", "a", "a"]),
        (b"a|b", "||", ["a|b"]),
    ],
)
def test_what_a_document_is(tmp_path: Path, data: bytes, delimiter: str, documents: list[str]) -> None:
    (tmp_path / "input.txt").write_bytes(data)
    assert Corpus.read(tmp_path / "input.txt", delimiter=delimiter).documents == documents


@pytest.mark.parametrize("wrong", [None, 3, b"\n", ["\n"]])
def test_what_is_no_delimiter(tmp_path: Path, wrong: object) -> None:
    with error("delimiter must be a str, not"):
        Corpus.read(tmp_path / "missing.txt", delimiter=wrong)  # type: ignore[arg-type]  # as an untyped caller may


@pytest.mark.slow
@given(st.text())
def test_delimiters_as_the_command_line_has_them(text: str) -> None:
    """Escaping whatever has a meaning gives any text."""
    escaped = text.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r")
    if text not in ("line", "blank", "none"):
        assert delimiter_of(escaped) == text
        assert delimiter_of(text.replace("\\", "\\\\")) == text


def test_delimiters_by_name() -> None:
    assert list(map(delimiter_of, ["line", "blank", "none", "", "Line"])) == ["\n", "\n\n", "", "", "Line"]
    assert delimiter_of(r"\n\t\r\\n<\\>") == "\n\t\r\\n<\\>"


@pytest.mark.parametrize(
    ("text", "escape"), [("\\", ""), ("a\\", ""), ("\\\\\\", ""), (r"\x4", "x4"), (r"\N", "N"), ("\\\n", r"\\n")]
)
def test_escapes_that_are_none(text: str, escape: str) -> None:
    with error("delimiter", rf"\\{escape} is no escape: choose from"):
        delimiter_of(text)


# What cannot be read


def test_missing(tmp_path: Path) -> None:
    with error("missing.txt: no such file"):
        Corpus.read(tmp_path / "missing.txt")


@pytest.fixture
def forbidden(tmp_path: Path) -> Iterator[Path]:
    """A file that must not be read. Root may read everything, so that it is somebody else meanwhile."""
    path = tmp_path / "input.txt"
    path.touch(mode=0o000)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    yield path
    os.seteuid(user)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="the permissions of POSIX")
def test_unreadable(forbidden: Path) -> None:
    with error("input.txt", "cannot be read", "[Pp]ermission"):
        Corpus.read(forbidden)


@pytest.mark.parametrize("path", ["input.txt/further", "in\0put", "x" * 5000], ids=["inside-a-file", "nul", "long"])
def test_impossible_paths(tmp_path: Path, path: str) -> None:
    (tmp_path / "input.txt").touch()
    with error("cannot be read|no such file"):
        Corpus.read(f"{tmp_path}{os.sep}{path}")


@pytest.mark.parametrize("data", [b"", b" \t\r\n\x0c\r\r\n\n ", b"\xef\xbb\xbf", "\xa0\u3000\x85".encode()], ids=repr)
def test_blank(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "input.txt").write_bytes(data)
    with error("input.txt", "no document in it", "one string a line"):
        Corpus.read(tmp_path / "input.txt")


@pytest.mark.parametrize(
    ("data", "encoding", "line", "offset", "byte"),
    [
        (b"anna\nb\xf6b\n", "utf-8", 2, 6, 0xF6),
        (b"\xff", "utf-8", 1, 0, 0xFF),
        (b"a\r\nb\rc\n\n\xe2\xa2", "utf-8", 5, 8, 0xE2),
        (b"\xef\xbb\xbfa\n\xc3\n", "utf-8", 2, 5, 0xC3),
        (b"\xef\xbb\xbfa\n\xc3\n", "utf-8-sig", 2, 5, 0xC3),
        ("żółw".encode("iso8859_2"), "ascii", 1, 0, 0xBF),
        ("a\nਅ\nb\n".encode("utf-16-le") + b"\x01\xdc", "utf-16-le", 4, 12, 0x01),  # ਅ has a byte 0x0a
        ("a\nb".encode("utf-16") + b"c", "utf-16", 2, 8, 0x63),
        (b"a\n\x1b$B0!\n\xff", "iso2022_jp", 3, 8, 0xFF),
    ],
)
def test_undecodable(tmp_path: Path, data: bytes, encoding: str, line: int, offset: int, byte: int) -> None:
    (tmp_path / "input.txt").write_bytes(data)
    with error(
        f"input.txt: line {line}, byte {offset}: 0x{byte:02x} is not {encoding}: ",
        "choose another, for instance encoding=.latin-1",
    ):
        Corpus.read(tmp_path / "input.txt", encoding=encoding)


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("mark", [codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE])
def test_a_utf_16_file_is_recognised(tmp_path: Path, mark: bytes, encoding: str) -> None:
    (tmp_path / "input.txt").write_bytes(mark + b"a\0")
    with error("line 1, byte 0", "encoding=.utf-16"):
        Corpus.read(tmp_path / "input.txt", encoding=encoding)


@pytest.mark.parametrize("encoding", ["", "klingon", "utf-8\0", "hex", "rot13", "\ud800", "x" * 3000, "../utf-8"])
def test_unknown_encodings(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "input.txt").write_bytes(b"anna")
    with error("encoding"):
        Corpus.read(tmp_path / "input.txt", encoding=encoding)


@given(st.sampled_from(sorted({*encodings.aliases.aliases.values()})), st.binary())
def test_any_bytes_in_any_encoding(file: Path, encoding: str, data: bytes) -> None:
    """A corpus or one line of explanation, whatever the bytes."""
    file.write_bytes(data)
    explanation = ""
    try:
        corpus = Corpus.read(file, encoding=encoding)
    except TapeGPTError as problem:
        explanation = str(problem)
    else:
        assert split(corpus.tokens()) == naive_tokens(corpus, corpus.documents)
    assert "\n" not in explanation


# From strings


@given(st.lists(st.text()).filter(lambda strings: any(map(str.strip, strings))))
def test_strings(strings: list[str]) -> None:
    """Surrogates and newlines inside a document are characters like others."""
    corpus = Corpus.of(iter(strings))
    assert corpus.documents == [string.strip() for string in strings if string.strip()]
    assert list(corpus.vocabulary) == sorted(set("".join(corpus.documents)))


def test_a_newline_inside_a_document() -> None:
    corpus = Corpus.of(["\nto be,\nor not\n", "be\r\n"])
    assert corpus.documents == ["to be,\nor not", "be"]
    assert split(corpus.tokens()) == naive_tokens(corpus, corpus.documents)
    assert "\n" in corpus.vocabulary


@pytest.mark.parametrize("wrong", [None, 3, b"anna", ["anna"], float("nan")])
def test_what_is_not_a_string(wrong: object) -> None:
    strings = cast("list[str]", ["anna", "", wrong])
    with error("document 2 must be a str, not", type(wrong).__name__):
        Corpus.of(strings)


@pytest.mark.parametrize("strings", [[], [""], [" ", "\n\t"]])
def test_no_strings(strings: list[str]) -> None:
    with error("no document", "at least one string"):
        Corpus.of(strings)


# Columns: whatever is no iterable of Python's own. A null, of whatever kind, is a document that is not there


CELLS = st.lists(st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"])))).filter(
    lambda cells: any(cell and cell.strip() for cell in cells)
)


@pytest.mark.slow
@given(CELLS)
def test_columns_of_pandas(cells: list[str | None]) -> None:
    pandas = pytest.importorskip("pandas")
    expected = Corpus.of([cell for cell in cells if cell is not None])
    for kind in (None, "object", "string", "category"):
        assert Corpus.of(pandas.Series(cells, dtype=kind)) == expected
    assert Corpus.of(pandas.Index(cells, dtype="object")) == expected
    for null in (float("nan"), pandas.NA):
        assert Corpus.of(pandas.Series([null if cell is None else cell for cell in cells], dtype="object")) == expected


@given(CELLS)
def test_columns_of_pyarrow(cells: list[str | None]) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    expected = Corpus.of([cell for cell in cells if cell is not None])
    for kind in (pyarrow.string(), pyarrow.large_string()):
        array = pyarrow.array(cells, kind)
        assert Corpus.of(array) == expected
        assert Corpus.of(array.dictionary_encode()) == expected
        assert Corpus.of(pyarrow.chunked_array([array[:1], array[1:]])) == expected
        assert Corpus.of(scalar for scalar in array if scalar.is_valid) == expected


@given(CELLS)
def test_columns_of_numpy(cells: list[str | None]) -> None:
    numpy = pytest.importorskip("numpy")
    strings = [cell for cell in cells if cell is not None and not cell.endswith("\0")]  # which numpy takes for the end
    if "".join(strings).strip():
        assert Corpus.of(numpy.array(strings, dtype=str)) == Corpus.of(strings)
    expected = Corpus.of([cell for cell in cells if cell is not None])
    assert Corpus.of(numpy.array(cells, dtype=object)) == expected


def test_columns_that_are_none() -> None:
    pandas, numpy = pytest.importorskip("pandas"), pytest.importorskip("numpy")
    with error("documents must be several strings, not a DataFrame: give one of its columns"):
        Corpus.of(pandas.DataFrame({"name": ["anna"]}))
    with error("document 1 must be a str, not int: 5"):
        Corpus.of(pandas.Series(["anna", 5]))
    with error("document 0 must be a str, not list"):
        Corpus.of(numpy.array([["anna"]]))
    with error("documents must be several strings, not array"):
        Corpus.of(numpy.array("anna"))
    with error("there is no document"):
        Corpus.of(pandas.Series([None, pandas.NA]))


# What is made of the strings


@given(st.lists(st.text("aAİ ß", max_size=4)), st.booleans(), st.sampled_from([None, 1, 2, 3]), st.booleans())
def test_selecting(strings: list[str], lowercase: bool, max_length: int | None, unique: bool) -> None:
    expected: list[str] = []
    for string in strings:
        document = string.strip().lower() if lowercase else string.strip()
        fits = max_length is None or len(document) <= max_length
        if document and fits and not (unique and document in expected):
            expected.append(document)
    if expected:
        corpus = Corpus.of(strings, lowercase=lowercase, max_length=max_length, unique=unique)
        assert (corpus.documents, "".join(corpus.vocabulary)) == (expected, "".join(sorted(set("".join(expected)))))
    else:
        with error("there is no document: give at least one string", "" if max_length is None else f"{max_length}"):
            Corpus.of(strings, lowercase=lowercase, max_length=max_length, unique=unique)


@pytest.mark.parametrize(
    "wrong", [{"max_length": 0}, {"max_length": True}, {"max_length": "9"}, {"lowercase": 1}, {"unique": None}]
)
def test_selections_that_are_none(wrong: dict[str, object]) -> None:
    with error(f"{next(iter(wrong))} must be"):
        Corpus.of(["anna"], **wrong)  # type: ignore[arg-type]  # as an untyped caller may


# Which corpus it is


@given(st.lists(st.text(), min_size=1), st.lists(st.text(), min_size=1))
def test_a_digest_tells_documents_apart(some: list[str], others: list[str]) -> None:
    assert (Corpus(some, Vocabulary(())).digest() == Corpus(others, Vocabulary(())).digest()) == (some == others)


def test_a_digest_sees_where_documents_end() -> None:
    digests = {
        Corpus(documents, Vocabulary(())).digest() for documents in (["ab", "c"], ["a", "bc"], ["abc"], ["c", "ab"])
    }
    assert len(digests) == 4


def test_a_digest_stays_the_same_from_version_to_version() -> None:
    assert Corpus.of(["anna", "b\u00f6b"]).digest() == hashlib.sha256("4,3\nannab\u00f6b".encode()).hexdigest()


def test_a_corpus_knows_where_it_comes_from(tmp_path: Path) -> None:
    (tmp_path / "input.txt").write_text("Anna\nbob\n")
    corpus = Corpus.read(tmp_path / "input.txt", lowercase=True)
    assert corpus.source == Source(paths=(str(tmp_path / "input.txt"),), lowercase=True)
    assert Corpus.from_source(corpus.source) == corpus == Corpus.of(["anna", "bob"])
    assert corpus != Corpus.of(["bob", "anna"])
    assert Corpus.dataset("names").source == Source(dataset="names")
    assert Corpus.of(["anna"]).source is None
    assert [side.source for side in hold_out(corpus, 0.5, 1)] == [None, None]  # of which it gives more


# Tokens


@given(st.lists(st.text(), min_size=1).filter(lambda strings: any(map(str.strip, strings))))
def test_tokens(strings: list[str]) -> None:
    corpus = Corpus.of(strings)
    tokens = corpus.tokens()
    assert len(tokens) == len(corpus)
    assert (tokens.ids.typecode, tokens.ids.itemsize, tokens.starts.typecode) == ("I", 4, "q")
    assert split(tokens) == naive_tokens(corpus, corpus.documents)
    assert len(tokens.ids) == tokens.starts[-1] + 1


@given(st.lists(st.text("abżółw\n亀🐢", min_size=1), min_size=1), st.randoms(use_true_random=False))
def test_tokens_in_another_order(strings: list[str], rng: random.Random) -> None:
    corpus = Corpus.of(["a", *strings])
    order = [rng.randrange(len(corpus)) for _ in range(rng.randrange(20))]
    expected = naive_tokens(corpus, [corpus.documents[number] for number in order])
    assert split(corpus.tokens(order)) == split(corpus.tokens(iter(order))) == expected


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 2, 93, 94, 160, 254, 255, 256, 257, 40_000, 55_295, 55_296, 60_000, 70_000])
def test_vocabularies_of_every_size(size: int) -> None:
    """Around a byte's worth of tokens, and with tokens whose number is a surrogate's (55,296 to 57,343)."""
    characters = list(islice((chr(code) for code in count() if not chr(code).isspace()), size))
    for documents in (["".join(characters)], ["".join(characters[::-1]), characters[0], "".join(characters[:300])]):
        corpus = Corpus(documents, Vocabulary.of(characters))
        assert split(corpus.tokens()) == naive_tokens(corpus, documents)
        assert corpus.tokens().ids[0] == corpus.vocabulary.bos == size


@pytest.mark.parametrize(
    "characters", ["a\U0010ffff", "\ud7ff", "\0\n", "".join(map(chr, range(255))), "".join(map(chr, range(1, 257)))]
)
def test_bos_never_meets_a_character(characters: str) -> None:
    """Also where the characters that could stand for it between documents are taken."""
    documents = [characters, characters[::-1], characters[0]]
    corpus = Corpus(documents, Vocabulary.of(characters))
    assert split(corpus.tokens()) == naive_tokens(corpus, documents)


# Windows


@given(st.lists(st.text("ab", min_size=1, max_size=12), min_size=1), st.integers(1, 14), st.booleans())
def test_windows(strings: list[str], block_size: int, shuffled: bool) -> None:
    corpus = Corpus.of(["ab", *strings])
    order = [*range(len(corpus))][::-2] if shuffled else None
    tokens, windows = corpus.tokens(order), corpus.windows(block_size, order)
    assert (windows.ids, windows.starts.typecode) == (tokens.ids, "q")
    expected = []
    for document in split(tokens):
        expected += [document[i : i + block_size + 1] for i in range(0, len(document) - 1, block_size)]
    assert split(windows) == expected
    assert max(map(len, split(windows))) <= block_size + 1
    assert corpus.windows(block_size, order, "cut") == tokens
    expected = []
    for document in split(tokens):
        length = len(document) - 1
        copies = tilings(length, block_size, "overlap")
        expected += [document[i : j + 1] for begins in copies for i, j in pairwise([*begins, length])]
        read = {window_start(number, block_size) for number in range(length)}
        assert block_size % 2 or read <= {begin for begins in copies for begin in begins}
    assert split(corpus.windows(block_size, order, "overlap")) == expected
    texts = sorted(corpus.documents if order is None else corpus.documents[::-2])
    by_text = Corpus(texts, corpus.vocabulary).windows(block_size)
    assert split(corpus.sorted_windows(block_size, order)) == split(by_text)


def test_windows_of_nothing() -> None:
    corpus = Corpus.of(["anna"])
    assert len(corpus.windows(2, [])) == len(corpus.sorted_windows(2, [])) == 0
    assert corpus.windows(2, iter([0, 0])).starts.tolist() == [0, 2, 4, 5, 7, 9, 10]


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, None, "16"])
def test_windows_of_no_size(wrong: object) -> None:
    with error("block_size must be a whole number from 1 on, not"):
        Corpus.of(["anna"]).windows(wrong)  # type: ignore[arg-type]  # as an untyped caller may
    with error("long must be one of"):
        Corpus.of(["anna"]).windows(2, long="overlaps")


SCRIPTS = ["ar_AA", "bn_BD", "cs_CZ", "de_DE", "el_GR", "fa_IR", "he_IL", "hi_IN", "hu_HU", "hy_AM", "ja_JP", "ka_GE"]
SCRIPTS += ["ko_KR", "ne_NP", "pl_PL", "ru_RU", "ta_IN", "th_TH", "tr_TR", "uk_UA", "vi_VN", "zh_CN", "zh_TW"]


@pytest.mark.slow
@pytest.mark.parametrize("locale", SCRIPTS)
def test_names_in_many_scripts(tmp_path: Path, locale: str) -> None:
    fake = Faker(locale)
    fake.seed_instance(7)
    text = "".join(f"{fake.name()}\n" for _ in range(40))
    (tmp_path / "input.txt").write_text(text, encoding="utf-8")
    corpus = Corpus.read(tmp_path / "input.txt")
    assert (corpus.documents, "".join(corpus.vocabulary)) == naive(text)
    assert split(corpus.tokens()) == naive_tokens(corpus, corpus.documents)
    assert [corpus.vocabulary.decode(corpus.vocabulary.encode(name)) for name in corpus.documents] == corpus.documents


@given(st.text(min_size=1).filter(str.strip))
def test_encoding_and_decoding(text: str) -> None:
    corpus = Corpus.of([text])
    [document], vocabulary = corpus.documents, corpus.vocabulary
    assert [
        corpus.vocabulary.bos,
        *corpus.vocabulary.encode(document),
        corpus.vocabulary.bos,
    ] == corpus.tokens().ids.tolist()
    assert vocabulary.decode(iter(vocabulary.encode(document))) == document


def test_characters_and_tokens_that_are_none() -> None:
    vocabulary = Corpus.of(["anna"]).vocabulary
    assert (vocabulary.encode(""), vocabulary.decode([])) == ([], "")
    with error("text 'anb': the model does not know 'b': leave that out"):
        vocabulary.encode("anb")
    with error("token 1 is 2: those of a text are 0 to 1"):
        vocabulary.decode([0, vocabulary.bos])
    with error("token 0 is -1"):
        vocabulary.decode([-1])


# Embedded data


FACTS = {  # documents, SHA-256 of their lines
    "names": (5_163, "cba14f452b7768bd7fe093035a67491d4a334061634ccfd51522fb796910e75e"),
    "surnames": (88_799, "cc6e6f69c119471a97fe3efc9f68082df5121dde31c6700a534742828106ae49"),
    "dinosaurs": (366, "d3f9c5fe67231bae833c7b7d68ae836ebfddcd4de948d88675aa184799f3b469"),
    "elements": (118, "3f92e856bade17cb5d495a226ab32c152e4e31dd8138dc11c457207ee54699a0"),
    "places": (458, "a060529f67ab2def9154c2f13e9d54d8aea03b3abb0fc58afd9579b66334f4ec"),
    "languages": (322, "3dac47d04b74e1d4c098b755f94526b34d5ba7e7dae57974ad662001fa5f24c5"),
}


def test_every_data_set_has_its_facts() -> None:
    assert FACTS.keys() == DATASETS.keys()


@pytest.mark.parametrize("name", FACTS)
def test_data_sets(name: str) -> None:
    corpus = Corpus.dataset(name)
    lines = "".join(f"{document}\n" for document in corpus.documents)
    assert (len(corpus), hashlib.sha256(lines.encode()).hexdigest()) == FACTS[name]
    assert corpus.documents == sorted(set(corpus.documents))
    assert all(document == document.strip().lower() for document in corpus.documents)
    assert corpus == Corpus.of(lines.split("\n"))


def test_well_known_names_are_there() -> None:
    assert {"mary", "james", "zulma"} <= set(Corpus.dataset("names").documents)
    assert {"smith", "garcia", "aaberg"} <= set(Corpus.dataset("surnames").documents)
    assert {"triceratops", "velociraptor"} <= set(Corpus.dataset("dinosaurs").documents)
    assert {"hydrogen", "oganesson"} <= set(Corpus.dataset("elements").documents)
    assert {"timbuktu", "new york"} <= set(Corpus.dataset("places").documents)
    assert {"deutsch", "日本語", "ქართული", "العربية"} <= set(Corpus.dataset("languages").documents)


def test_unknown_data_set() -> None:
    with error("dataset must be one of names, surnames, dinosaurs, elements, places, languages, not 'towns'"):
        Corpus.dataset("towns")


def test_what_is_computed_once_is_no_part_of_a_corpus() -> None:
    corpus, other = Corpus.of(["ab", "c"]), Corpus.of(["ab", "c"])
    assert corpus.predictions == 5
    assert "predictions" not in corpus.as_dict()
    assert corpus == other
    assert corpus.replace(documents=["abc"]).predictions == 4


def test_repr_is_short() -> None:
    assert repr(Corpus.dataset("surnames")) == "<Corpus of 88,799 documents, 26 characters>"


@pytest.mark.parametrize("wrong", ["anna", 5, None])
def test_one_thing_is_not_several_strings(wrong: object) -> None:
    with pytest.raises(TapeGPTError, match="documents must be several strings"):
        Corpus.of(wrong)  # type: ignore[arg-type]  # as an untyped caller may
