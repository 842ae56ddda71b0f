"""The audit of any scikit-learn classifier on a table of footprints, for a notebook."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import geopandas
import numpy as np
import pandas
from sklearn.base import ClassifierMixin, clone, is_classifier
from sklearn.ensemble import RandomForestClassifier

from landfold.audit.audit import Audit, AuditError, Splits, audit, zone_size_m
from landfold.audit.baseline import Baseline
from landfold.library.cross_validators import SpatialFolds, as_arguments
from landfold.library.folds import random_folds
from landfold.library.inputs import location_points, row_values

ROWS = {"zoned": "spatial", "random": "random", "gap": "optimism"}
"""Names in metrics/audit.json: here."""


@dataclass(frozen=True, repr=False)
class FoldAudit(Audit):
    """The result of `audit_folds`: print it, or take its numbers from `to_frame` and `summary`."""

    def to_frame(self) -> pandas.DataFrame:
        """Accuracy, balanced accuracy and macro F1 with the ends of their 95 % intervals over zones.

        Returns:
            A row for each of the classifier and the coordinates alone, and for each of spatial folds, random folds and
            ``optimism``: random less spatial, paired over zones.
        """
        rows = {
            (name, folds): {
                (score, part): values[part]
                for score, values in scores[key].items()
                for part in ("pooled", "low", "high")
            }
            for name, scores in ((self.baseline, self.statistics), ("coordinates", self.coordinates))
            for key, folds in ROWS.items()
        }
        frame = pandas.DataFrame.from_dict(rows, orient="index")
        frame.columns = [score if part == "pooled" else f"{score}_{part}" for score, part in frame.columns]
        frame.index.names = ["features", "folds"]
        return frame

    def warnings(self) -> list[str]:
        """What speaks against the zones as they are."""
        return [as_arguments(message) for message in super().warnings()]

    def __repr__(self) -> str:
        scores = self.to_frame()
        lines = [f"{self.baseline} on {self.patches} rows in {self.zones} zones, and on their coordinates alone"]
        columns = {
            score: [
                f"{row[score]:.3f} ({row[f'{score}_low']:.3f} to {row[f'{score}_high']:.3f})"
                for _, row in scores.iterrows()
            ]
            for score in ("accuracy", "macro_f1")
        }
        lines.append(pandas.DataFrame(columns, index=scores.index).to_string())
        medians = {split: np.median(self.distances[split]) for split in ("zoned", "random")}
        lines.append(
            f"median distance from a test row to training: {medians['zoned']:.0f} m under spatial folds, "
            f"{medians['random']:.0f} m under random ones"
        )
        if w := self.wasserstein_m():
            lines.append(
                f"W to the distances of the prediction locations: {w['zoned']:.0f} m under spatial folds, "
                f"{w['random']:.0f} m under random ones"
            )
        range_m, size_m = self.variogram.range_m, self.zone_size_m
        alike = "no range of alike errors was found" if range_m is None else f"errors are alike over {range_m:.0f} m"
        lines.append(alike if size_m is None else f"{alike}; zones are {size_m:.0f} m wide")
        return "\n".join([*lines, *(f"warning: {text}" for text in self.warnings())])


def audit_folds(
    table: geopandas.GeoDataFrame | geopandas.GeoSeries,
    features: Sequence[str] | np.ndarray | pandas.DataFrame,
    labels: str | Sequence[Any],
    *,
    folds: SpatialFolds,
    classifier: ClassifierMixin | None = None,
    prediction_locations: Any = None,
    seed: int = 0,
) -> FoldAudit:
    """How optimistic random cross-validation is of a classifier, and whether the zones of the folds are large enough.

    The classifier, and one that knows the coordinates alone, are scored under the spatial folds and under random
    folds with as much training in each. Scores are pooled over all test rows; intervals are over zones.

    Args:
        table: the table that the folds were made of.
        features: columns of the table, or the features of each row as an array or a table.
        labels: column of the table, or a value for each row: the class.
        folds: what `spatial_folds` made of the table.
        classifier: any classifier of scikit-learn, which is cloned; a random forest of 100 trees by default. One
            without ``predict_proba`` will do.
        prediction_locations: where the classifier is to predict, if that is known: a table of geometries, or (x, y)
            in the CRS of the folds, (location, 2). Gives W, by which to see whether spatial or random folds test at
            the distances at which predictions are made.
        seed: of the random folds and the default classifier.

    Raises:
        AuditError: a table other than that of the folds, no classifier, or features that are absent.
        FoldError: rows without a class, or locations that are no points.
    """
    if not table.index.equals(folds.index):
        raise AuditError("the table is not the one that the folds were made of: its index is another; make folds of it")
    classifier = RandomForestClassifier(100, random_state=seed, n_jobs=-1) if classifier is None else classifier
    if not is_classifier(classifier):
        raise AuditError(f"{type(classifier).__name__} is no classifier: the audit counts right and wrong classes")
    own = folds.folds.table
    rows = own[["patch", "x", "y"]].assign(label=row_values(table, labels, "labels"))
    zone = own["zone"].to_numpy()
    result = audit(
        rows,
        _features(table, features),
        Splits(zone, [list(folds.masks)], [list(random_folds(folds, seed=seed).masks)]),
        Baseline(type(classifier).__name__, lambda rows, labels, zones: clone(classifier).fit(rows, labels)),
        locations=None if prediction_locations is None else location_points(prediction_locations, own.crs),
        zone_size_m=zone_size_m(folds.zones),
        seed=seed,
    )
    return FoldAudit(**vars(result))


def _features(table: Any, features: Any) -> Any:
    """(row, feature), an array or a table."""
    if isinstance(features, list | tuple | pandas.Index) and all(isinstance(name, str) for name in features):
        absent = [name for name in features if name not in table]
        if absent:
            raise AuditError(f"features: no column {', '.join(absent)}; the table has {', '.join(map(str, table))}")
        return pandas.DataFrame(table[list(features)])
    values = features if hasattr(features, "iloc") else np.asarray(features)
    if values.ndim != 2 or len(values) != len(table):
        raise AuditError(f"features: of shape {values.shape}, expected ({len(table)}, number of features)")
    return values
