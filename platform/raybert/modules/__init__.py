"""The parts a model is made of, and reading them from a Sentence Transformers folder."""

from raybert.modules.checkpoint import Checkpoint, ModuleEntry, read_checkpoint
from raybert.modules.dense import Dense
from raybert.modules.location import locate_model
from raybert.modules.module import Features, Module, ModuleSequence, Opening
from raybert.modules.normalize import Normalize
from raybert.modules.pooling import Pooling
from raybert.modules.registry import MODULES, module_class, open_modules
from raybert.modules.sparse_auto_encoder import SparseAutoEncoder
from raybert.modules.splade_pooling import SpladePooling
from raybert.modules.tokenization import Text, Tokenization
from raybert.modules.transformer import Transformer

__all__ = [
    "MODULES",
    "Checkpoint",
    "Dense",
    "Features",
    "Module",
    "ModuleEntry",
    "ModuleSequence",
    "Normalize",
    "Opening",
    "Pooling",
    "SparseAutoEncoder",
    "SpladePooling",
    "Text",
    "Tokenization",
    "Transformer",
    "locate_model",
    "module_class",
    "open_modules",
    "read_checkpoint",
]
