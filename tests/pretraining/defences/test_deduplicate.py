import numpy as np

from mimia.config.recipes import Recipe
from mimia.data.file_metadata import FACTS
from mimia.data.imageset import ImageSet
from mimia.models.checkpoints import native
from mimia.pretraining.context import TrainingContext
from mimia.pretraining.pool import pretrained
from mimia.pretraining.specs import spec_for
from mimia.runtime.arrays import content_id
from mimia.runtime.compute import ComputeSettings
from mimia.runtime.store import Store


def test_a_single_image_is_trained_on_of_those_that_show_the_same_picture(digits: ImageSet, store: Store) -> None:
    digits = digits.take(np.arange(20))
    pixels = np.concatenate([digits.pixels, digits.pixels[:3, :, :, ::-1]])
    ids = np.array([content_id(image) for image in pixels])
    repeated = ImageSet(pixels, ids, ids, np.zeros((len(pixels), len(FACTS))))
    recipe = Recipe.model_validate(
        {"preset": "mae-nano", "epochs": 1, "batch_size": 10, "defences": {"deduplicate": True}}
    )
    context = TrainingContext(ComputeSettings(device="cpu", threads=1), store)
    paths = [pretrained(images, spec_for(digits, recipe), recipe, 0, context) for images in (digits, repeated)]
    assert paths[0] == paths[1]
    training = native.load_training(paths[1])
    assert training is not None
    assert training.images == 20
