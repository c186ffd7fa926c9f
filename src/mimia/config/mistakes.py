"""One sentence for a mistake in the settings."""

from pydantic import ValidationError

RENAMED = {"recipe.crop_area": "recipe.crop_scale", "split.n_known": "split.n_population"}
"""Keys of earlier versions, and what they are called now."""


def explain(error: ValidationError) -> str:
    """Return a sentence about the first mistake: the key, what is wrong, and how to mend it."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if key in RENAMED:
        return f"Setting {key} is now called {RENAMED[key]}: rename it."
    if first["type"] == "extra_forbidden":
        return f"There is no setting {key}: `mimia init` writes a file with all of them."
    message = first["msg"].removeprefix("Value error, ")
    if not key:
        return f"Settings: {message}."
    return f"Setting {key}: {message} (given: {first['input']!r})."
