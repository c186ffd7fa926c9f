"""Which column of a parquet file holds its images, and which their labels."""

from typing import Any, NamedTuple

from mimia.runtime.errors import MimiaError
from mimia.runtime.strict_json import parse_json

_IMAGES = ("image", "img")
_LABELS = ("label", "labels", "fine_label")


class Columns(NamedTuple):
    """The columns that are read.

    Attributes:
        image: Of images.
        label: Of their labels, if there is one.
        notes: What its reader has to know of others.
    """

    image: str
    label: str | None
    notes: tuple[str, ...]


def choose_columns(schema: Any, name: str) -> Columns:
    """Return the columns of images and of labels.

    Args:
        schema: pyarrow's.
        name: Of the file, for errors.

    Raises:
        MimiaError: There is no column of images, or several and none has the usual name.
    """
    columns = image_columns(schema)
    if not columns:
        raise MimiaError(
            f"{name} has no column 'image' of encoded images or paths, but only: {', '.join(schema.names)}. "
            "Rename the column that holds them to 'image'."
        )
    image = next((usual for usual in _IMAGES if usual in columns), columns[0])
    others = [column for column in columns if column != image]
    if others and image not in _IMAGES:
        raise MimiaError(
            f"{name} has several columns that could be images ({', '.join(columns)}): rename the one to 'image'."
        )
    usual_labels = (label for label in _LABELS if label in schema.names and label != image)
    labels = [*_features(schema, "ClassLabel"), *usual_labels]
    notes = (f"the column {image} alone, not {', '.join(others)}",) if others else ()
    return Columns(image, next(iter(labels), None), notes)


def image_columns(schema: Any) -> list[str]:
    """Return the columns that may hold images; texts only under the usual names of such a column."""
    if noted := _features(schema, "Image"):
        return noted
    return [
        field.name for field in schema if _is_encoded(field.type) or (field.name in _IMAGES and _is_text(field.type))
    ]


def holds_encoded(schema: Any) -> bool:
    """Return whether a column may hold encoded images."""
    return any(_is_encoded(field.type) for field in schema)


def _features(schema: Any, kind: str) -> list[str]:
    """Return the columns that `datasets` noted in the file to be of a kind."""
    noted = (schema.metadata or {}).get(b"huggingface", b"{}")
    try:
        features = parse_json(noted)["info"]["features"]
        return [name for name in schema.names if features[name]["_type"] == kind]
    except (ValueError, KeyError, TypeError):  # no note, or not of `datasets`
        return []


def _is_encoded(kind: Any) -> bool:
    from pyarrow import types

    kind = _inner(kind)
    if types.is_struct(kind):
        return bool(kind.get_field_index("bytes") >= 0)
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind))


def _is_text(kind: Any) -> bool:
    from pyarrow import types

    kind = _inner(kind)
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _inner(kind: Any) -> Any:
    """Return the type of the values of a dictionary or a list."""
    from pyarrow import types

    if types.is_dictionary(kind) or types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _inner(kind.value_type)
    return kind
