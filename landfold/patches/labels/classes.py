"""What labels of every kind give for a scene."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager

import geopandas
import numpy as np
from rasterio.crs import CRS
from rasterio.windows import Window

from landfold.geo.grid import Grid


class SceneLabels(ABC):
    """Labels on the grid of one scene."""

    of_points = False
    """Whether points are counted, and not pixels."""

    @abstractmethod
    def counts(self, window: Window) -> np.ndarray:
        """Labelled pixels, or points, of each class in each column of a window: (class, x) int64."""

    @abstractmethod
    def classes(self, window: Window) -> np.ndarray:
        """Class numbers of a window, (y, x) uint8, UNLABELLED where there is none."""

    def conflicts(self, window: Window) -> dict[str, int]:
        """Counts of what labels of several classes contend for in a window, by their name in metrics/patches.json.

        Windows that share no pixel add up.
        """
        return {}

    def zone_values(self, window: Window) -> np.ndarray:
        """The number of the zone value at each pixel of a window, (y, x) int: its index in ``zone_values`` plus 1.

        0 where no label is. Called for labels that have such values.
        """
        raise NotImplementedError


class PixelLabels(SceneLabels):
    """Labels with a class for each pixel."""

    def __init__(self, classes: int) -> None:
        """Labels of so many classes."""
        self._numbers = range(1, classes + 1)

    def counts(self, window: Window) -> np.ndarray:
        """Labelled pixels of each class in each column of a window: (class, x) int64."""
        numbers = self.classes(window)
        return np.stack([(numbers == number).sum(axis=0, dtype=np.int64) for number in self._numbers])


class Labels(ABC):
    """Labels of all scenes, of whatever kind."""

    names: list[str]
    """class names in the order of their numbers"""
    warnings: tuple[str, ...] = ()
    """what the user should know of"""
    zone_values: tuple[str | None, ...] = ()
    """values of labels.zone_attribute, None for labels without one; () where no such attribute is set"""

    @abstractmethod
    def on(self, scene: str, grid: Grid) -> AbstractContextManager[SceneLabels]:
        """The labels on the grid of a scene, open while the block runs."""

    def fingerprint_for_scene(self, scene: str, grid: Grid) -> object:
        """What changes when the labels of one scene change, as JSON; None where that takes all of their files."""
        return None

    @property
    def ground(self) -> geopandas.GeoSeries | None:
        """The ground of all labels; None where they are of whole scenes."""
        return None

    def pixel_warnings(self, grids: Mapping[str, Grid]) -> tuple[str, ...]:
        """What the user should know of where each pixel of the scenes, given by their names, is to have a label."""
        return ()

    def summary(self, crs: CRS) -> dict[str, int]:
        """Counts for metrics/patches.json; areas in square units of ``crs``."""
        return {}
