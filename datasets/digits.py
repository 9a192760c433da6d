"""Makes a digit-pair dataset from the handwritten digits that scikit-learn carries.

    python datasets/digits.py --output data/digits

The 1,797 images of 8x8 pixels are the test part of the UCI "Optical Recognition of Handwritten
Digits" data (Alpaydin and Kaynak, 1998). They are scaled to 27x27. No image is in two of the sets.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
import script
from cyclopts import App, Parameter
from PIL import Image
from sklearn.datasets import load_digits

from sharedlayers_dist.config import MakingConfig
from sharedlayers_dist.data.making.items import ArrayItems
from sharedlayers_dist.data.making.make_pairs import make_pairs_of
from sharedlayers_dist.data.making.summary import PairsSummary

_SIZE = 27
_LARGEST_VALUE = 16
"""Of a pixel in scikit-learn's digits."""


@dataclass(frozen=True, kw_only=True)
class DigitsConfig(MakingConfig):
    """A digit-pair dataset: do both images show the same digit?"""

    num_pairs: int | None = 10_000
    """Pairs in all sets together."""
    split_by: Literal["group", "item"] = "item"
    """What two sets never share: images, or digits (and so images)."""


def make_digits(config: DigitsConfig, *, progress: bool = False) -> PairsSummary:
    """Makes the dataset that `config` describes."""
    made_by = {"command": "datasets/digits.py", "items": "sklearn.datasets.load_digits"}
    return make_pairs_of(load_images(), config, made_by=made_by, progress=progress)


def load_images() -> ArrayItems:
    """The images, uint8 (27, 27, 1) from 0 for paper to 255 for ink, and their digits."""
    digits = load_digits()
    images = scale_images(digits.images / _LARGEST_VALUE, _SIZE)
    pixels = np.rint(images * 255).astype(np.uint8)
    storage = pa.FixedSizeListArray.from_arrays(pa.array(pixels.ravel()), _SIZE * _SIZE)
    item_type = pa.fixed_shape_tensor(pa.uint8(), (_SIZE, _SIZE, 1))
    return ArrayItems(
        pa.ExtensionArray.from_storage(item_type, storage),
        pa.array(digits.target).cast(pa.string()),
    )


def scale_images(images: np.ndarray, size: int) -> np.ndarray:
    """Scales square images (n, s, s) to float32 (n, size, size), bilinearly between centres."""
    scaled = [
        Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR)
        for image in images.astype(np.float32)
    ]
    return np.stack([np.asarray(image) for image in scaled])


app = App(name="digits.py", help=__doc__, default_parameter=Parameter(negative=()))


@app.default
def main(*, config: Annotated[DigitsConfig, Parameter(name="*")]) -> None:
    """Makes a digit-pair dataset from the handwritten digits that scikit-learn carries."""
    print(make_digits(config, progress=sys.stderr.isatty()))


if __name__ == "__main__":
    script.run(app)
