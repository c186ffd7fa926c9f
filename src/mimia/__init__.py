"""Does this image encoder give away the images it was pre-trained on?"""

__version__ = "0.1.0"
