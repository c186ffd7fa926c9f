"""All signals by name."""

from mimia.runtime.registry import Registry
from mimia.signals.base import Signal

SIGNALS: Registry[type[Signal]] = Registry(
    "signal",
    "mimia.signals",
    {
        "reconstruction": "mimia.signals.reconstruction:Reconstruction",
        "loss_neighbourhood": "mimia.signals.loss_neighbourhood:LossNeighbourhood",
        "latents": "mimia.signals.latents:Latents",
        "gradients": "mimia.signals.gradients:Gradients",
        "partcrop": "mimia.signals.partcrop:PartCropResponses",
        "view_similarity": "mimia.signals.view_similarity:ViewSimilarity",
        "view_similarity_by_ratio": "mimia.signals.view_similarity_by_ratio:ViewSimilarityByRatio",
        "crop_similarity": "mimia.signals.crop_similarity:CropSimilarity",
        "embeddings": "mimia.signals.embeddings:Embeddings",
        "image_features": "mimia.signals.image_features:ImageFeatures",
        "patch_predictability": "mimia.signals.patch_predictability:PatchPredictability",
    },
)
