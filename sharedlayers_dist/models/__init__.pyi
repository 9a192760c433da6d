# The public names and the modules that they are imported from on first use.
from .compact import compact_view as compact_view
from .nodes import AmbiguousNodeError as AmbiguousNodeError
from .nodes import get_input as get_input
from .nodes import get_input_at as get_input_at
from .nodes import get_input_shape_at as get_input_shape_at
from .nodes import get_output as get_output
from .nodes import get_output_at as get_output_at
from .nodes import get_output_shape_at as get_output_shape_at
from .pair import PairEncoder as PairEncoder
from .pair import find_encoder as find_encoder
from .pair import pair_classifier as pair_classifier
from .registry import ModelInfo as ModelInfo
from .registry import build as build
from .registry import info as info
from .registry import names as names
from .sharing import SharedLayer as SharedLayer
from .sharing import shared_layers as shared_layers
