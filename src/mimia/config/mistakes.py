"""One sentence for a mistake in the settings."""

from pydantic import ValidationError

from mimia.runtime.text import masked_values, shortened

RENAMED = {"recipe.crop_area": "recipe.crop_scale", "split.n_known": "split.n_population"}
"""Keys of earlier versions, and what they are called now."""
_LONGEST = 270  # characters of a sentence, about
_EMPTY = "string_too_short"  # pydantic's name of it


def explain(error: ValidationError) -> str:
    """Return a sentence about the first mistake: the key, what is wrong, and how to mend it."""
    first = error.errors()[0]
    key = shortened(".".join(str(part) for part in first["loc"]))
    if key in RENAMED:
        return f"Setting {key} is now called {RENAMED[key]}: rename it."
    if first["type"] == "extra_forbidden":
        return f"There is no setting {key}: `mimia init` writes a file with all of them."
    if first["type"] == _EMPTY:
        return f"Setting {key} is empty: is a variable of the shell not set?"
    message = shortened(first["msg"].removeprefix("Value error, "), _LONGEST - len(key))
    if not key:
        return f"Settings: {message}."
    given = shortened(repr(masked_values(first["input"])))
    sentence = f"Setting {key}: {message}"
    return f"{sentence} (given: {given})." if len(sentence) + len(given) < _LONGEST else f"{sentence}."
