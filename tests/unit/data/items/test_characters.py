"""Texts to ids: equal, character by character, to a plain reference for all of Unicode."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sharedlayers_dist.data import encode_text
from sharedlayers_dist.data.items.characters import count_characters, encode_and_count_truncated

ALPHABET = "eao \0\u0301é한\ud7ff\ue000\uffff😀\U0010ffff"
characters = st.one_of(st.sampled_from(ALPHABET), st.characters(exclude_categories=["Cs"]))
texts = st.lists(st.one_of(st.none(), st.text(characters, max_size=20)), max_size=12)


def encode_by_hand(text, alphabet, length):
    kept = (text or "")[-length:]
    ids = [alphabet.find(character) + 1 for character in kept]
    return [0] * (length - len(ids)) + ids


@given(texts, st.integers(1, 12))
@example(["", "", "👩‍👩‍👧‍👦", None, "e\u0301", "x" * 300], 12)
def test_ids_equal_those_of_a_loop_over_characters(texts, length):
    expected = [encode_by_hand(text, ALPHABET, length) for text in texts]
    for layout in (pa.string(), pa.large_string(), pa.string_view()):
        ids = encode_text(pa.array(texts, layout), ALPHABET, length)
        assert ids.dtype == np.uint16
        assert ids.shape == (len(texts), length)
        assert ids.tolist() == expected


@given(texts, st.integers(0, 12), st.integers(0, 12))
def test_slices_are_honoured(texts, start, length):
    array = pa.array(texts, pa.string()).slice(start, length)
    expected = [encode_by_hand(text, ALPHABET, 8) for text in texts[start : start + length]]
    assert encode_text(array, ALPHABET, 8).tolist() == expected


@given(st.lists(texts, max_size=4))
def test_chunks_are_put_end_to_end(chunks):
    array = pa.chunked_array([pa.array(chunk, pa.string()) for chunk in chunks], pa.string())
    expected = [encode_by_hand(text, ALPHABET, 8) for chunk in chunks for text in chunk]
    assert encode_text(array, ALPHABET, 8).tolist() == expected


def test_every_code_point_is_one_character():
    every = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    ids = encode_text(pa.array(every), "".join(every[-256:]), 2)
    assert (ids[:, 0] == 0).all()
    assert ids[-256:, 1].tolist() == list(range(1, 257))
    assert (ids[:-256] == 0).all()


def test_more_rows_than_are_done_at_once():
    texts = [f"{number}ü" for number in range(10_000)]
    alphabet = "0123456789ü"
    assert encode_text(pa.array(texts), alphabet, 6).tolist() == [
        encode_by_hand(text, alphabet, 6) for text in texts
    ]


def test_of_a_long_text_the_last_characters_are_kept_and_it_is_counted():
    ids, num_truncated = encode_and_count_truncated(
        pa.array(["abc", "cab😀", "x" * 279, ""]), "abc😀", 3
    )
    assert ids.tolist() == [[1, 2, 3], [1, 2, 4], [0, 0, 0], [0, 0, 0]]
    assert num_truncated == 2


def test_an_alphabet_may_have_more_characters_than_16_bits_count():
    every = [chr(c) for c in range(0x20000) if not 0xD800 <= c < 0xE000]
    ids = encode_text(pa.array(every[-2:]), "".join(every), 1)
    assert ids[:, 0].tolist() == [len(every) - 1, len(every)]


@pytest.mark.parametrize(
    "encoded",
    [
        [b"ok", b"\xff"],
        [b"\xed\xa0\x80"],  # A surrogate.
        [b"\xc3", b"\xa9"],  # Together they are a character; each alone is not.
        [b"", b"a\xe2\x82", b"\xac"],
    ],
)
def test_bytes_that_are_not_utf8_are_refused(encoded):
    array = pa.array(encoded, pa.binary())
    texts = pa.StringArray.from_buffers(len(array), array.buffers()[1], array.buffers()[2])
    with pytest.raises(ValueError, match=r"(?i)utf-8"):
        encode_text(texts, "ab", 4)


@given(texts)
def test_characters_are_counted_like_by_hand(texts):
    counts = count_characters(pa.array(texts, pa.string()))
    joined = "".join(text or "" for text in texts)
    assert counts.sum() == len(joined)
    assert all(counts[ord(character)] == joined.count(character) for character in set(joined))
