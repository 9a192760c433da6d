"""Images as other programs write them."""

import io

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from sharedlayers_dist.data import ImageFileCodec
from tests.unit.data.items.samples import COLOURED, GREY, make_file


def encode(files, channels):
    codec = ImageFileCodec(shape=(4, 3, channels))
    held = codec.read(pa.chunked_array([files], pa.binary()))
    return codec.find_bad(held, thoroughly=True), codec.encode(held)


def save(image, **options):
    file = io.BytesIO()
    image.save(file, "PNG", **options)
    return file.getvalue()


def test_a_jpeg_is_what_pillow_makes_of_it():
    file = make_file(COLOURED[0], "JPEG", quality=90)
    _, encoded = encode([file], 3)
    np.testing.assert_array_equal(encoded.values[0], np.asarray(Image.open(io.BytesIO(file))))


def test_colours_and_grey_are_made_of_each_other():
    _, encoded = encode([make_file(COLOURED[0])], 1)
    expected = np.asarray(Image.fromarray(COLOURED[0]).convert("L"))
    np.testing.assert_array_equal(encoded.values[0, ..., 0], expected)
    _, encoded = encode([make_file(GREY[0])], 3)
    np.testing.assert_array_equal(encoded.values[0], np.repeat(GREY[0], 3, axis=-1))


@pytest.mark.parametrize("mode", ["1", "LA", "P", "RGBA"])
def test_other_modes_of_png_are_read(mode):
    image = Image.fromarray(COLOURED[0]).convert(mode)
    bad, encoded = encode([save(image)], 3)
    assert (bad, encoded.bad) == ({}, {})
    np.testing.assert_array_equal(encoded.values[0], np.asarray(image.convert("RGB")))


def test_a_palette_may_be_transparent():
    image = Image.fromarray(COLOURED[0]).convert("P")
    bad, encoded = encode([save(image, transparency=bytes(range(200)))], 3)
    assert bad == {}
    np.testing.assert_array_equal(encoded.values[0], np.asarray(image.convert("RGB")))


def test_numbers_of_16_bits_are_no_pixels_of_8():
    deep = Image.fromarray(np.full((4, 3), 1000, np.uint16))
    bad, _ = encode([save(deep), make_file(GREY[0])], 1)
    assert list(bad) == [0]
    assert "more than 8 bits" in bad[0]


def test_only_decoding_finds_that_the_end_of_an_image_is_missing():
    codec = ImageFileCodec(shape=(4, 3, 3))
    whole = make_file(COLOURED[0])
    held = codec.read(pa.chunked_array([[whole, whole[:60]]]))
    assert codec.find_bad(held) == {}
    assert list(codec.find_bad(held, thoroughly=True)) == [1]
    encoded = codec.encode(held)
    assert list(encoded.bad) == [1]
    assert not encoded.values[1].any()
    np.testing.assert_array_equal(encoded.values[0], COLOURED[0])


def test_without_a_model_images_may_have_any_size():
    files = [make_file(COLOURED[0]), make_file(COLOURED[0].swapaxes(0, 1)), b"no image"]
    codec = ImageFileCodec(shape=())
    held = codec.read(pa.chunked_array([files], pa.binary()))
    assert codec.find_bad(held, thoroughly=True) == {2: "is no PNG or JPEG image"}
