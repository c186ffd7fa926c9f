"""All kinds of signals by their names."""

from mimia.signals.contents import Predictability, Statistics
from mimia.signals.gradients import Gradients
from mimia.signals.kinds import Kind
from mimia.signals.latents import Latents
from mimia.signals.parts import Parts
from mimia.signals.reconstructions import Distances, Surroundings
from mimia.signals.views import Embeddings, Ratios, Similarities, Views

KINDS: dict[str, Kind] = {
    "distances": Distances(),
    "surroundings": Surroundings(),
    "latents": Latents(),
    "gradients": Gradients(),
    "parts": Parts(),
    "similarities": Similarities(),
    "ratios": Ratios(),
    "views": Views(),
    "embeddings": Embeddings(),
    "statistics": Statistics(),
    "predictability": Predictability(),
}
