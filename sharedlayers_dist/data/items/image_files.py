"""Images as files, PNG or JPEG, which are decoded when they are put into a batch.

Till then they are held as they are stored, in a tenth of the memory or less.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from sharedlayers_dist.data.items.codec import BadItems, Encoded, as_array, for_input, name_bad
from sharedlayers_dist.errors import one_line

MODE_OF_CHANNELS = {1: "L", 3: "RGB"}
"""What Pillow calls grey images and those in colours."""
_FORMATS = ("PNG", "JPEG")
_MODES_OF_8_BITS = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"}
_DECODING_THREADS = 4


class _BadImageError(Exception):
    """What is wrong with an image."""


@dataclass(frozen=True, kw_only=True)
class ImageFileCodec:
    """PNG and JPEG files as `uint8` pixels, grey or in colours.

    The files are values of a binary column, or the field `bytes` of a struct, as Hugging Face's
    datasets have it; a `path` beside it is not followed. They are held as a `large_binary` array.
    What is transparent loses its transparency, and no image is turned as its EXIF data may ask for.

    Example:
        >>> file = io.BytesIO()
        >>> Image.new("RGB", (3, 2), "white").save(file, "PNG")
        >>> held = ImageFileCodec(shape=(2, 3, 1)).read(pa.chunked_array([[file.getvalue()]]))
        >>> ImageFileCodec(shape=(2, 3, 1)).encode(held).values.shape
        (1, 2, 3, 1)
        >>> ImageFileCodec(shape=(2, 2, 1)).find_bad(held)
        {0: 'is an image of 2 x 3 pixels and must be of 2 x 2'}
    """

    shape: tuple[int, ...]
    """`(height, width, channels)`, 1 or 3 of these; `()` to look at images of any size."""
    model_input: str = field(default="", compare=False, repr=False)
    """The input of a model that they are for, to be told with those that do not fit; or empty."""

    @property
    def dtype(self) -> str:
        """Pixels are bytes."""
        return "uint8"

    @property
    def kept(self) -> str:
        """Nothing is truncated."""
        return ""

    def read(self, column: pa.ChunkedArray) -> pa.Array:
        """Holds files as they are."""
        files = as_array(column)
        if pa.types.is_struct(files.type):
            files = pc.struct_field(files, "bytes")
        return files.cast(pa.large_binary())

    def find_bad(self, items: pa.Array, *, thoroughly: bool = False) -> BadItems:
        """Finds what is no image or has another size; thoroughly, also what cannot be decoded."""
        look = self._decode if thoroughly else self._open
        missing = name_bad(items.is_null().to_numpy(zero_copy_only=False), "holds no file")
        return missing | _find_bad(items, lambda place: look(items[place]))

    def blanks(self, num_items: int) -> pa.Array:
        """No files."""
        return pa.nulls(num_items, pa.large_binary())

    def encode(self, items: pa.Array) -> Encoded:
        """Decodes the files, several at a time."""
        pixels = np.zeros((len(items), *self.shape), np.uint8)

        def decode(place: int) -> None:
            pixels[place] = self._decode(items[place])

        return Encoded(pixels, bad=_find_bad(items, decode))

    def _open(self, file: pa.Scalar) -> Image.Image:
        """Reads the beginning of a file, which says what it holds."""
        try:
            image = Image.open(io.BytesIO(file.as_buffer()), formats=_FORMATS)
        except UnidentifiedImageError:
            raise _BadImageError("is no PNG or JPEG image") from None
        if self.shape and (image.height, image.width) != self.shape[:2]:
            height, width, _ = self.shape
            raise _BadImageError(
                f"is an image of {image.height} x {image.width} pixels and must be of "
                f"{height} x {width}{for_input(self.model_input)}"
            )
        if image.mode not in _MODES_OF_8_BITS:
            raise _BadImageError(f"is an image of more than 8 bits (mode {image.mode})")
        return image

    def _decode(self, file: pa.Scalar) -> NDArray[np.uint8]:
        """The pixels of a file, shape `(height, width, channels)`."""
        image = self._open(file)
        if image.mode == "P":  # Its colours may be transparent, which Pillow warns of.
            image = image.convert("RGBA")
        pixels = np.asarray(image.convert(MODE_OF_CHANNELS[self.shape[2] if self.shape else 3]))
        return pixels.reshape(image.height, image.width, -1)


def _find_bad(files: pa.Array, look: Callable[[int], object]) -> BadItems:
    """Looks at the files at all places, several at a time; where that fails, says why."""

    def describe(place: int) -> str:
        try:
            look(place)
        except _BadImageError as e:
            return str(e)
        except MemoryError:
            raise
        except Exception as e:  # Pillow raises whatever its decoders stumble over.
            return f"is a broken image ({one_line(e)})"
        return ""

    places = np.flatnonzero(files.is_valid().to_numpy(zero_copy_only=False)).tolist()
    with ThreadPoolExecutor(_DECODING_THREADS, "sharedlayers-images") as pool:
        described = zip(places, pool.map(describe, places), strict=True)
        return {place: problem for place, problem in described if problem}
