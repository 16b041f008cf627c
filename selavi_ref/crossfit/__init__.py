"""Cross-fitted self-labelling: labels of videos from features, by linear heads that were fitted on other videos."""

from selavi_ref.crossfit.crossfit import CrossfitResult, crossfit
from selavi_ref.crossfit.model import CrossfitModel, add_modality, fit_crossfit, refine_crossfit
from selavi_ref.crossfit.search import CrossfitSettings

__all__ = [
    "CrossfitModel",
    "CrossfitResult",
    "CrossfitSettings",
    "add_modality",
    "crossfit",
    "fit_crossfit",
    "refine_crossfit",
]
