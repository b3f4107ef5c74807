"""The parts a model is made of, and reading them from a Sentence Transformers folder."""

from raybert.modules.checkpoint import Checkpoint, ModuleEntry, read_checkpoint
from raybert.modules.cnn import CNN
from raybert.modules.dense import Dense
from raybert.modules.dropout import Dropout
from raybert.modules.layer_norm import LayerNorm
from raybert.modules.location import locate_model
from raybert.modules.lstm import LSTM
from raybert.modules.module import Features, Module, ModuleSequence, Opening
from raybert.modules.normalize import Normalize
from raybert.modules.pooling import Pooling
from raybert.modules.registry import MODULES, module_class, open_modules
from raybert.modules.router import RoutedTokenization, Router
from raybert.modules.sparse_auto_encoder import SparseAutoEncoder
from raybert.modules.sparse_static_embedding import SparseStaticEmbedding
from raybert.modules.splade_pooling import SpladePooling
from raybert.modules.static_embedding import StaticEmbedding
from raybert.modules.tokenization import Text, Tokenization
from raybert.modules.transformer import Transformer
from raybert.modules.weighted_layer_pooling import WeightedLayerPooling

__all__ = [
    "CNN",
    "LSTM",
    "MODULES",
    "Checkpoint",
    "Dense",
    "Dropout",
    "Features",
    "LayerNorm",
    "Module",
    "ModuleEntry",
    "ModuleSequence",
    "Normalize",
    "Opening",
    "Pooling",
    "RoutedTokenization",
    "Router",
    "SparseAutoEncoder",
    "SparseStaticEmbedding",
    "SpladePooling",
    "StaticEmbedding",
    "Text",
    "Tokenization",
    "Transformer",
    "WeightedLayerPooling",
    "locate_model",
    "module_class",
    "open_modules",
    "read_checkpoint",
]
