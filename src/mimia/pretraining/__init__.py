"""Pre-training of masked-image models, with defences, and pools of shadow models."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, ["defences"])
