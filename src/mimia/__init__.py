"""Does this image encoder give away the images that it was pre-trained on?

The names of this interface, with their types, are in ``__init__.pyi``; each is imported when it is first used.
"""

import lazy_loader

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
