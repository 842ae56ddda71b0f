"""The labelled pixels of all scenes: which of them a training may learn from, and their features, strip by strip."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rasterio.windows import Window

from landfold.core.errors import LandfoldError
from landfold.geo.grid import Grid
from landfold.geo.raster import Raster
from landfold.pixels.ground import HeldOutGround

STRIP_PX = 128
"""Rows of pixels that are in memory at once, as wide as the scene."""


class PixelError(LandfoldError):
    """Labelled pixels that cannot be learned from."""


@dataclass(frozen=True)
class PixelStrip:
    """Some rows of a scene.

    Attributes:
        scene: its name.
        window: the rows, without their surroundings.
        grid: of the window.
        values: (channel, y, x) float32, the window with ``margin`` pixels more on each side: 0 outside of the scene
            and where there is no data.
        labels: (y, x) uint8, the window with one pixel more on each side: 0 unlabelled, class i is i + 1.
        valid: (y, x) bool, which pixels of the window hold data.
    """

    scene: str
    window: Window
    grid: Grid
    values: np.ndarray
    labels: np.ndarray
    valid: np.ndarray

    @property
    def labelled(self) -> np.ndarray:
        """Which pixels of the window hold data and have a label: (y, x) bool."""
        return (self.classes > 0) & self.valid

    @property
    def classes(self) -> np.ndarray:
        """The labels of the window, (y, x) uint8."""
        return self.labels[1:-1, 1:-1]


@dataclass(frozen=True)
class LabelledScenes:
    """The normalized scenes and their label rasters.

    Attributes:
        normalized: folder of SCENE.tif with all channels.
        labels: folder of SCENE.tif with class numbers, on the same grids.
        channels: names of the channels, in order.
    """

    normalized: Path
    labels: Path
    channels: list[str]

    @classmethod
    def of(cls, normalized: Path, labels: Path) -> "LabelledScenes":
        """The scenes in two folders.

        Raises:
            PixelError: there are none, or they differ in their channels.
        """
        channels: list[str] = []
        for path in sorted(normalized.glob("*.tif")):
            with Raster.open(path) as raster:
                channels = channels or list(raster.names)
                if list(raster.names) != channels:
                    raise PixelError(
                        f"{path}: channels {', '.join(raster.names)}, other scenes have {', '.join(channels)}; "
                        "run dvc repro normalize"
                    )
        if not channels:
            raise PixelError(f"{normalized}: no scene; run dvc repro normalize")
        return cls(normalized, labels, channels)

    def grids(self) -> dict[str, Grid]:
        """The grid of each scene, by its name."""
        grids = {}
        for path in sorted(self.normalized.glob("*.tif")):
            with Raster.open(path) as raster:
                grids[path.stem] = raster.grid
        return grids

    def strips(
        self, margin: int = 0, *, rows: int = STRIP_PX, wanted: Callable[[str, Window], bool] | None = None
    ) -> Iterator[PixelStrip]:
        """All rows of all scenes.

        Args:
            margin: pixels of surroundings on each side.
            rows: how many at once.
            wanted: which strips to read, by scene and window; all by default.

        Raises:
            PixelError: see `parts`.
        """
        windows = {name: strip_windows(grid, rows) for name, grid in self.grids().items()}
        if wanted is not None:
            windows = {name: [own for own in parts if wanted(name, own)] for name, parts in windows.items()}
        yield from self.parts(windows, margin)

    def parts(self, windows: Mapping[str, Sequence[Window]], margin: int = 0) -> Iterator[PixelStrip]:
        """Windows of scenes, in order.

        Args:
            windows: by the name of their scene, which they do not exceed.
            margin: pixels of surroundings on each side.

        Raises:
            PixelError: a scene has no label raster, or one of another grid.
        """
        for name in windows:
            path, file = self.normalized / f"{name}.tif", self.labels / f"{name}.tif"
            if not file.is_file():
                raise PixelError(f"{file}: not found; expected the labels of a scene; run dvc repro patches")
            with Raster.open(path) as raster, Raster.open(file) as labels:
                difference = raster.grid.difference(labels.grid)
                if difference:
                    raise PixelError(f"{file}: another grid than {path}: {difference}; run dvc repro patches")
                for window in windows[name]:
                    yield PixelStrip(
                        name,
                        window,
                        raster.grid.part(window),
                        read_padded(raster, window, margin),
                        read_padded(labels, window, 1)[0],
                        raster.read_mask(window),
                    )


def strip_windows(grid: Grid, rows: int = STRIP_PX) -> list[Window]:
    """The windows of so many rows each that a grid consists of."""
    return [Window(0, row, grid.width, min(rows, grid.height - row)) for row in range(0, grid.height, rows)]


def read_padded(raster: Raster, window: Window, margin: int) -> np.ndarray:
    """A window with so many pixels more on each side, which are 0 outside of the raster: (channel, y, x)."""
    height, width = raster.grid.shape
    top, left = int(window.row_off) - margin, int(window.col_off) - margin
    bottom, right = top + int(window.height) + 2 * margin, left + int(window.width) + 2 * margin
    inside = Window(max(left, 0), max(top, 0), 0, 0)
    inside = Window(
        inside.col_off, inside.row_off, min(right, width) - inside.col_off, min(bottom, height) - inside.row_off
    )
    values = raster.read_raw(inside)
    spare = ((0, 0), (inside.row_off - top, bottom - inside.row_off - inside.height))
    return np.pad(values, (*spare, (inside.col_off - left, right - inside.col_off - inside.width)))


@dataclass(frozen=True)
class PixelRows:
    """Labelled pixels as a table.

    Attributes:
        features: (pixel, feature) float32.
        labels: (pixel,) int64, class numbers from 0.
        zones: (pixel,) object, names of their zones.
    """

    features: np.ndarray
    labels: np.ndarray
    zones: np.ndarray

    def __len__(self) -> int:
        """Number of pixels."""
        return len(self.labels)

    def part(self, chosen: np.ndarray) -> "PixelRows":
        """Some of them, by a mask or by positions."""
        return PixelRows(self.features[chosen], self.labels[chosen], self.zones[chosen])


def usable_pixels(scenes: LabelledScenes, usable: Callable[[PixelStrip], np.ndarray]) -> list[np.ndarray]:
    """Which pixels of each strip are usable: a (y, x) bool array packed into bits, for each strip."""
    return [np.packbits(strip.labelled & usable(strip)) for strip in scenes.strips()]


def trainable(ground: HeldOutGround) -> Callable[[PixelStrip], np.ndarray]:
    """Pixels that a training may learn from: those that it may see."""
    return lambda strip: ~ground.blocked(strip.grid)


def draw(masks: Sequence[np.ndarray], most: int, *, seed: Sequence[int]) -> list[np.ndarray]:
    """At most so many of the pixels of all strips, drawn at random, each as likely: packed masks again."""
    counts = np.array([int(np.bitwise_count(mask).sum()) for mask in masks])
    if counts.sum() <= most:
        return list(masks)
    chosen = np.sort(np.random.default_rng(seed).choice(int(counts.sum()), most, replace=False, shuffle=False))
    starts = np.concatenate([[0], np.cumsum(counts)])
    drawn = []
    for mask, start, end in zip(masks, starts[:-1], starts[1:], strict=True):
        bits = np.unpackbits(mask)
        own = chosen[np.searchsorted(chosen, start) : np.searchsorted(chosen, end)] - start
        keep = np.zeros_like(bits)
        keep[np.flatnonzero(bits)[own]] = 1
        drawn.append(np.packbits(keep))
    return drawn


def collect(
    scenes: LabelledScenes, masks: Sequence[np.ndarray], ground: HeldOutGround, boxes_px: Sequence[int]
) -> PixelRows:
    """The features of the chosen pixels of all strips, blind to the ground that is held out.

    Args:
        scenes: all scenes.
        masks: as `usable_pixels` or `draw` gives them.
        ground: what must not be seen.
        boxes_px: sides of the boxes around each pixel.
    """
    from landfold.pixels.surroundings import feature_count, margin_px, pixel_features  # torch takes seconds to import

    count = sum(int(np.bitwise_count(mask).sum()) for mask in masks)
    features = np.empty((count, feature_count(len(scenes.channels), boxes_px)), dtype=np.float32)
    labels, zones = np.empty(count, dtype=np.int64), np.empty(count, dtype=object)
    margin, filled = margin_px(boxes_px), 0
    wanted = iter([mask.any() for mask in masks])
    used = iter([mask for mask in masks if mask.any()])
    for strip in scenes.strips(margin, wanted=lambda *_: next(wanted)):
        chosen = np.unpackbits(next(used), count=strip.valid.size).astype(bool).reshape(strip.valid.shape)
        end = filled + int(chosen.sum())
        around = Window(-margin, -margin, strip.grid.width + 2 * margin, strip.grid.height + 2 * margin)
        blocked = ground.blocked(strip.grid.part(around))
        features[filled:end] = pixel_features(np.where(blocked, 0, strip.values), boxes_px, chosen)
        labels[filled:end] = strip.classes[chosen].astype(np.int64) - 1
        zones[filled:end] = ground.zones_of(strip.grid)[chosen]
        filled = end
    return PixelRows(features, labels, zones)
