"""The parts a model is made of, and reading them from a Sentence Transformers folder."""

from raybert.modules.bow import BoW
from raybert.modules.checkpoint import Checkpoint, ModuleEntry, read_checkpoint
from raybert.modules.clip import CLIPModel
from raybert.modules.cnn import CNN
from raybert.modules.dense import Dense
from raybert.modules.dropout import Dropout
from raybert.modules.layer_norm import LayerNorm
from raybert.modules.location import locate_model
from raybert.modules.logit_score import LogitScore
from raybert.modules.lstm import LSTM
from raybert.modules.module import Features, Module, ModuleSequence, Opening
from raybert.modules.normalize import Normalize
from raybert.modules.pooling import Pooling
from raybert.modules.registry import MODULES, module_class, open_modules, open_tokenization
from raybert.modules.router import RoutedTokenization, Router
from raybert.modules.sparse_auto_encoder import SparseAutoEncoder
from raybert.modules.sparse_static_embedding import SparseStaticEmbedding
from raybert.modules.splade_pooling import SpladePooling
from raybert.modules.static_embedding import StaticEmbedding
from raybert.modules.tokenization import Text, Tokenization
from raybert.modules.transformer import Transformer
from raybert.modules.weighted_layer_pooling import WeightedLayerPooling
from raybert.modules.whitespace import WhitespaceTokenizer
from raybert.modules.word_embeddings import WordEmbeddings
from raybert.modules.word_weights import WordWeights

__all__ = [
    "CNN",
    "LSTM",
    "MODULES",
    "BoW",
    "CLIPModel",
    "Checkpoint",
    "Dense",
    "Dropout",
    "Features",
    "LayerNorm",
    "LogitScore",
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
    "WhitespaceTokenizer",
    "WordEmbeddings",
    "WordWeights",
    "locate_model",
    "module_class",
    "open_modules",
    "open_tokenization",
    "read_checkpoint",
]
