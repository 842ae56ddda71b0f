"""Reference points: read from a file, checked, and their classes matched with those of the map."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import geopandas
import numpy as np
import pandas
from rasterio.crs import CRS

from landfold.accuracy.estimators import AccuracyError
from landfold.core.errors import did_you_mean, first_ten
from landfold.geo.vector import POINTS, check_attribute, check_features, check_rows, read_layer
from landfold.patches.settings import value_text

REFERENCE = "reference"
"""Attribute of the reference class in the points that `landfold.accuracy.sample` draws."""

MAP_DIGEST = "map_digest"
"""Attribute that identifies the map that such points were drawn from."""

_PATCH_ID = r".+/\d+/\d+"
"""SCENE/ROW/COLUMN, in the column patch of data/patches.parquet and of what is made of it."""


@dataclass(frozen=True)
class ReferencePoints:
    """The features of a file: single points with a CRS, no two at one place."""

    path: Path
    table: geopandas.GeoDataFrame

    @classmethod
    def read(cls, path: Path, layer: str | None = None) -> "ReferencePoints":
        """Read points in any CRS.

        Raises:
            AccuracyError: the file holds Landfold's own patches.
            VectorError: the file cannot be read, or holds anything but single points with a CRS, each at its own place.
        """
        table = read_layer(path, layer, setting="--layer", geometry="Point")
        _refuse_patches(path, table)
        check_features(path, table, "reference points")
        kinds = table.geometry.geom_type
        wrong = ~kinds.isin(POINTS) | table.geometry.is_empty | (table.geometry.count_coordinates() != 1)
        check_rows(path, wrong, "features are not single points", "expected one point for each place that was drawn")
        table = table.explode(ignore_index=True)
        check_rows(
            path,
            table.geometry.duplicated(keep=False),
            "points share their place with another",
            "counted twice they would narrow the intervals: keep one reference class for each place",
        )
        return cls(path, table)

    def __len__(self) -> int:
        return len(self.table)

    def rows(self, chosen: np.ndarray) -> str:
        """The first rows of the chosen points, (point,) bool, for a message."""
        return first_ten(self.table.index[chosen])

    def coordinates(self, crs: CRS) -> tuple[np.ndarray, np.ndarray]:
        """X and y in a CRS, (point,) each."""
        geometry = self.table.to_crs(crs).geometry
        return geometry.x.to_numpy(), geometry.y.to_numpy()

    @property
    def map_digests(self) -> set[str]:
        """Digests of the maps that the points were drawn from by `landfold sample`; empty for other points."""
        return set(self.table[MAP_DIGEST].dropna().astype(str)) if MAP_DIGEST in self.table else set()

    def classes(self, attribute: str, names: Sequence[str], *, option: str) -> np.ndarray:
        """Position in ``names`` of each point's value of an attribute, (point,) int64.

        Args:
            attribute: which one.
            names: of the map's classes.
            option: by which the user chooses the attribute, for messages.

        Raises:
            VectorError: there is no such attribute, or a point has no value.
            AccuracyError: a value is no class of the map.
        """
        check_attribute(self.path, self.table, attribute, option)
        texts = self.table[attribute].map(value_text, na_action="ignore").str.strip()
        check_rows(
            self.path,
            texts.isna() | (texts == ""),
            f"of {len(self)} points have no '{attribute}'",
            "interpret them too: without those that are hard to tell the accuracy comes out too high",
        )
        unknown = [f"'{text}'{did_you_mean(text, names)}" for text in sorted(set(texts) - set(names))]
        if unknown:
            raise AccuracyError(
                f"{self.path}: '{attribute}' has values that are no class of the map: {first_ten(unknown)}; its "
                f"classes are {', '.join(names)}"
            )
        return texts.map({name: position for position, name in enumerate(names)}).to_numpy(np.int64)


def _refuse_patches(path: Path, table: pandas.DataFrame) -> None:
    columns = [name for name in table.columns if str(name).lower() == "patch"]
    if len(table) and any(table[name].astype(str).str.fullmatch(_PATCH_ID).all() for name in columns):
        raise AccuracyError(
            f"{path}: these are patches of Landfold, a convenience sample: they lie where labels happened to be and "
            "were not drawn at random, so the accuracy of the map cannot be estimated from them. Their score on "
            "held-out zones, with its interval over zones, is in metrics/summary.json; for the map draw a "
            "sample with `landfold sample`"
        )
