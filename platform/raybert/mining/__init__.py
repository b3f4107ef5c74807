"""Mining: hard negatives, translations, paraphrases and near-duplicates, from vectors alone."""

from raybert.mining.hard_negatives import Negatives, choose_negatives, mine_hard_negatives
from raybert.mining.negative_tables import Texts, negatives_table
from raybert.mining.positives import Positives
from raybert.mining.rules import NegativeRules
from raybert.mining.teacher import Teacher, text_teacher

__all__ = [
    "NegativeRules",
    "Negatives",
    "Positives",
    "Teacher",
    "Texts",
    "choose_negatives",
    "mine_hard_negatives",
    "negatives_table",
    "text_teacher",
]
