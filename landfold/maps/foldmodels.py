"""The trained models of all folds, and which fold held out the ground of a map's cells."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas
import shapely
from rasterio.crs import CRS

from landfold.core.files import read_json
from landfold.core.settings import validate
from landfold.folds.lists import read_index
from landfold.geo.grid import Grid
from landfold.network.card import ModelCard
from landfold.network.errors import ModelError
from landfold.network.model import Classifier
from landfold.pixels.ground import zones_at


def read_fold_cards(models: Path, folds: Path) -> list[ModelCard]:
    """The cards of all folds that ``folds``/index.json lists, in their order.

    Args:
        models: folder of fold_0, fold_1, ..., each with a model.json.
        folds: folder of the fold lists.

    Raises:
        FoldError: there is no index, or a fold was trained on another split than the index lists.
        ModelError: a fold has no card.
        SettingsError: a card lacks something.
    """
    index, cards = read_index(folds), []
    for fold in index.folds:
        path = models / f"fold_{fold}" / "model.json"
        if not path.is_file():
            raise ModelError(f"{path}: not found, so the model of fold {fold} is missing; {index.retrain(fold)}")
        card = validate(read_json(path), ModelCard, where=str(path))
        index.check_card(path, fold, card.fold_digest)
        cards.append(card)
    return cards


def load_fold_models(models: Path, folds: Path, device: str) -> list[Classifier]:
    """The classifiers of all folds that ``folds``/index.json lists, in their order, on a device.

    Raises:
        FoldError, SettingsError: see `read_fold_cards`.
        ModelError: a fold is missing or broken.
    """
    return [Classifier.load(models / f"fold_{card.fold}", device) for card in read_fold_cards(models, folds)]


def zone_of_learned_ground(
    zone_of: Callable[[np.ndarray, np.ndarray], np.ndarray], footprints: np.ndarray, zones: np.ndarray
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Gives the zone at x and y, in a patch that of the patch, which may reach over the border of its zone.

    A network of patches learns from whole patches. The fold that held out a patch has trained neither on it nor on any
    patch that shares ground with it.

    Args:
        zone_of: gives the zone at x and y.
        footprints: (patch,) geometries of the patches that are in folds, in the CRS of x and y.
        zones: (patch,) their zones.
    """
    tree = shapely.STRtree(footprints)

    def at(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        names = zone_of(x, y)
        point, patch = tree.query(shapely.points(x, y), predicate="within")
        names[point] = zones[patch]
        return names

    return at


def fold_of_cells(
    grid: Grid, crs: CRS, zone_of: Callable[[np.ndarray, np.ndarray], np.ndarray], fold_of_zone: dict[str, int]
) -> np.ndarray:
    """The fold that held out the zone of each cell's centre, (row, column) int64; -1 where no fold has the zone.

    Args:
        grid: the cells.
        crs: of the zones.
        zone_of: gives the zone at x and y in that CRS.
        fold_of_zone: the fold that holds out each zone.
    """
    zones = pandas.Series(zones_at(grid, crs, zone_of).ravel())
    return zones.map(fold_of_zone).fillna(-1).to_numpy(np.int64).reshape(grid.shape)
