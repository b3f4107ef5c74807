"""Mining: hard negatives, translations, paraphrases and near-duplicates, from vectors alone."""

from raybert.mining.bitext import Bitext, Neighbours, best_threshold, choose_bitext, mine_bitext
from raybert.mining.hard_negatives import Negatives, choose_negatives, mine_hard_negatives
from raybert.mining.near_duplicates import Groups, group_duplicates
from raybert.mining.negative_tables import Texts, negatives_table
from raybert.mining.paraphrases import mine_paraphrases
from raybert.mining.positives import Positives
from raybert.mining.retrievers import Retrieved, merge_retrieved
from raybert.mining.rules import NegativeRules
from raybert.mining.sanity import SanityRules, sane_pairs
from raybert.mining.teacher import Teacher, text_teacher

__all__ = [
    "Bitext",
    "Groups",
    "NegativeRules",
    "Negatives",
    "Neighbours",
    "Positives",
    "Retrieved",
    "SanityRules",
    "Teacher",
    "Texts",
    "best_threshold",
    "choose_bitext",
    "choose_negatives",
    "group_duplicates",
    "merge_retrieved",
    "mine_bitext",
    "mine_hard_negatives",
    "mine_paraphrases",
    "negatives_table",
    "sane_pairs",
    "text_teacher",
]
