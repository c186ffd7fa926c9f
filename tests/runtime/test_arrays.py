import numpy as np

from mimia.runtime.arrays import content_id, fingerprint, fingerprint_of_ids


def test_content_id_depends_on_the_pixels_and_not_on_their_layout_in_memory() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8), dtype=np.uint8)
    turned = np.asfortranarray(pixels)
    assert content_id(turned) == content_id(pixels)
    other = pixels.copy()
    other[2, 7, 7] ^= 1
    assert content_id(other) != content_id(pixels)


def test_fingerprint_tells_types_and_nesting_apart() -> None:
    values = [1, "1", 1.5, True, None, [1], [[1]], {"a": 1}]
    assert len({fingerprint({"a": value}) for value in values}) == len(values)


def test_fingerprint_of_ids_tells_where_one_ends() -> None:
    assert fingerprint_of_ids(["ab", "c"]) != fingerprint_of_ids(["a", "bc"])
