"""Class probabilities of every pixel of a normalized scene, tile by tile in bounded memory.

The map has the scene's own pixels. Each tile is read with the margin that the networks see around their pixels, and a
pixel's probabilities are the same bits whatever the tiles are. Ground outside of the scene is seen as no data.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from joblib import cpu_count
from rasterio.windows import Window

from landfold.geo.raster import Raster
from landfold.maps.inference import MapStrip, check_models
from landfold.network.model import Classifier, pixel_probabilities, single_threaded
from landfold.pixels.rows import read_padded

TILE_ROWS, TILE_COLUMNS = 128, 1024
"""Size of a tile in pixels, about: whole cores of a network of windows. It takes 0.2 GB with 16 channels."""

MOST_WORKERS = 4
"""Tiles or windows that are predicted side by side, at most, one on each processor core."""


def predict_pixels(
    raster: Raster, models: Sequence[Classifier], *, flips_and_rotations: bool = False
) -> Iterator[MapStrip]:
    """Predict a normalized scene with every model, tile by tile.

    Args:
        raster: the normalized scene.
        models: of the same classes and windows.
        flips_and_rotations: whether to average over the eight flips and rotations (D4) of each tile.

    Raises:
        InferenceError: the scene's channels are not those that a model was trained on, or models differ.
    """
    check_models(raster, models)
    card, grid = models[0].card, raster.grid
    rows, columns = (max(1, side // card.core_px) * card.core_px for side in (TILE_ROWS, TILE_COLUMNS))
    tiles = [
        Window(column, row, min(columns, grid.width - column), min(rows, grid.height - row))
        for row in range(0, grid.height, rows)
        for column in range(0, grid.width, columns)
    ]
    workers = _workers(models)

    def predict(window: Window, values: np.ndarray, valid: np.ndarray) -> MapStrip:
        probabilities = np.zeros((len(models), *valid.shape, len(card.classes)), dtype=np.float32)
        if valid.any():
            found = pixel_probabilities(models, values, valid, flips_and_rotations=flips_and_rotations)
            probabilities[:, valid] = found
        return MapStrip(window, probabilities, valid.astype(np.float64), _unseen(values, card.margin_px))

    with single_threaded(), ThreadPoolExecutor(workers) as pool:
        ahead: deque[Future[MapStrip]] = deque()
        for window in tiles:  # read here: a dataset of GDAL serves one thread
            values, valid = read_padded(raster, window, card.margin_px), raster.read_mask(window)
            ahead.append(pool.submit(predict, window, values, valid))
            if len(ahead) > workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def predict_cores(models: Sequence[Classifier], windows: np.ndarray) -> np.ndarray:
    """Mean over the models of the class probabilities of the pixels at the centres of windows, in the bits of a map.

    Args:
        models: of the same classes and windows.
        windows: (n, channel, size_px, size_px) float32 in [0, 1], 0 where there is no data.

    Returns:
        (n, class, core_px, core_px) float32.

    Raises:
        ModelError: the windows have another shape.
    """
    models[0].check(windows)
    core, classes = models[0].card.core_px, len(models[0].card.classes)
    found, all_of_core = np.empty((len(windows), classes, core, core), dtype=np.float32), np.ones((core, core), bool)

    def predict(place: int) -> None:
        rows = pixel_probabilities(models, windows[place], all_of_core).mean(axis=0)
        found[place] = rows.T.reshape(classes, core, core)

    with single_threaded(), ThreadPoolExecutor(_workers(models)) as pool:
        list(pool.map(predict, range(len(windows))))
    return found


def _workers(models: Sequence[Classifier]) -> int:
    """How many tiles or windows are predicted side by side."""
    return 1 if models[0].device.startswith("cuda") else min(cpu_count(), MOST_WORKERS)


def _unseen(values: np.ndarray, margin: int) -> np.ndarray:
    """The share of the window around each pixel that holds no data: (y, x) float32."""
    side = 2 * margin + 1
    empty = (values == 0).all(axis=0)
    counts = np.pad(empty.astype(np.int64).cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    inside = counts[side:, side:] - counts[:-side, side:] - counts[side:, :-side] + counts[:-side, :-side]
    return (inside / side**2).astype(np.float32)
