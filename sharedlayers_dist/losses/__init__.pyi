# The public names and the modules that they are imported from on first use.
from .batch_loss import AnchorLoss as AnchorLoss
from .batch_loss import BatchLoss as BatchLoss
from .contrastive import Contrastive as Contrastive
from .cosent import CoSENT as CoSENT
from .in_batch_negatives import InBatchNegatives as InBatchNegatives
from .learned_temperature import LearnedTemperature as LearnedTemperature
from .multi_similarity import MultiSimilarity as MultiSimilarity
from .online_contrastive import OnlineContrastive as OnlineContrastive
from .output_layer import check_output_layer as check_output_layer
from .sigmoid_pairs import SigmoidPairs as SigmoidPairs
from .supervised_contrastive import SupervisedContrastive as SupervisedContrastive
from .triplet import Triplet as Triplet
