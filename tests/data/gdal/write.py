"""Write the files of this folder, by GDAL (rasterio 1.4.4, GDAL 3.10.3): ``python write.py``.

Their values are those of `values`, which needs NumPy alone.
"""

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

HEIGHT, WIDTH = 12, 16
TILED = {"tiled": True, "blockxsize": 16, "blockysize": 16}
FILES: dict[str, tuple[int, str, dict[str, Any]]] = {  # bands, type, options
    "pixel-deflate": (13, "uint16", {"interleave": "pixel", "compress": "deflate", "predictor": 2}),
    "band-lzw-tiled": (13, "uint16", {"interleave": "band", "compress": "lzw", "predictor": 2, **TILED}),
    "band-plain": (3, "uint16", {"interleave": "band"}),
    "grey-band-plain": (1, "uint16", {"interleave": "band"}),
    "pixel-plain": (10, "uint8", {"interleave": "pixel"}),
    "band-deflate": (2, "uint8", {"interleave": "band", "compress": "deflate"}),
    "alpha": (4, "uint8", {"interleave": "pixel", "compress": "lzw"}),
    "no-alpha": (4, "uint8", {"interleave": "band", "photometric": "minisblack", "compress": "lzw"}),
    "float-zstd-tiled": (6, "float32", {"interleave": "band", "compress": "zstd", "predictor": 3, **TILED}),
    "twelve-bits": (5, "uint16", {"interleave": "pixel", "nbits": 12, "compress": "deflate"}),
    "big": (4, "uint16", {"interleave": "band", "bigtiff": "yes", "compress": "deflate"}),
    "overviews": (5, "uint8", {"interleave": "pixel", "compress": "deflate"}),
    "no-data": (5, "uint8", {"nodata": 0}),
    "sparse": (5, "uint8", {"sparse_ok": True, "interleave": "band", "compress": "deflate"}),
    "masked": (5, "uint8", {"compress": "deflate"}),
    "whole-mask": (5, "uint8", {"compress": "deflate"}),
}


def values(name: str) -> NDArray[Any]:
    """Return the values of a file, (bands, height, width)."""
    bands, kind, options = FILES[name]
    levels = 256 if kind == "uint8" else 1 << options.get("nbits", 16)
    drawn = np.random.default_rng(bands).integers(1, levels, (bands, HEIGHT, WIDTH))
    return (drawn / levels).astype(kind) if kind == "float32" else drawn.astype(kind)


def main() -> None:
    rasterio = import_module("rasterio")  # no dependency of mimia's
    for name, (bands, kind, options) in FILES.items():
        path, data = Path(__file__).with_name(f"{name}.tif"), values(name)
        size = {"width": WIDTH, "height": HEIGHT, "count": bands, "dtype": kind}
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "w", "GTiff", **size, **options) as file:
            if name == "no-data":
                data[:, 3, 4] = 0
            if name == "sparse":
                file.write(data[:2], [1, 2])
                continue
            file.write(data)
            if name == "overviews":
                file.build_overviews([2, 4])
            if name.endswith("mask") or name == "masked":
                mask = np.ones((HEIGHT, WIDTH), bool)
                mask[0, 0] = name == "whole-mask"
                file.write_mask(mask)


if __name__ == "__main__":
    main()
