"""The audit through the public face, of any classifier."""

import geopandas
import numpy as np
import pandas
import pytest
import shapely
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

import landfold
from landfold.audit.audit import AuditError
from landfold.folds.split import FoldError
from tests.factories import CRS_UTM33

SIDE = 16


@pytest.fixture(scope="module")
def table():
    """Windows of 100 m in patches of four by four of one class, and a feature that tells the patch."""
    rng = np.random.default_rng(0)
    row, column = np.mgrid[:SIDE, :SIDE].reshape(2, -1)
    patch = row // 4 * 4 + column // 4
    label = np.array(["bog", "farm"], dtype=object)[rng.permutation(np.arange(16) % 2)[patch]]
    x, y = 400_000 + 100.0 * column, 5_800_000 + 100.0 * row
    columns = {
        "label": label,
        "colour": (label == "farm") + rng.normal(0, 0.5, SIDE**2),
        "place": patch + rng.normal(0, 0.1, SIDE**2),
    }
    return geopandas.GeoDataFrame(columns, geometry=shapely.box(x, y, x + 100, y + 100), crs=CRS_UTM33)


@pytest.fixture(scope="module")
def folds(table):
    return landfold.spatial_folds(table, k=4, block_size_m=400, origin_m=(400_000, 5_800_000), label="label")


def audited(table, folds, features, **changes):
    return landfold.audit_folds(table, features, "label", folds=folds, **changes)


def test_a_feature_that_tells_the_place_flatters_random_folds_and_a_colour_does_not(table, folds):
    tree = DecisionTreeClassifier(min_samples_leaf=5, random_state=0)
    place, colour = (audited(table, folds, [name], classifier=tree).to_frame() for name in ("place", "colour"))
    assert place.loc[("DecisionTreeClassifier", "random"), "accuracy"] > 0.95
    assert place.loc[("DecisionTreeClassifier", "spatial"), "accuracy"] < 0.7
    assert place.loc[("DecisionTreeClassifier", "optimism"), "accuracy_low"] > 0.1
    assert abs(colour.loc[("DecisionTreeClassifier", "optimism"), "accuracy"]) < 0.1
    assert place.loc["coordinates"].equals(colour.loc["coordinates"])
    assert list(place.columns) == [
        score + part for score in ("accuracy", "balanced_accuracy", "macro_f1") for part in ("", "_low", "_high")
    ]


def test_its_accuracy_is_that_of_scikit_learn(table, folds):
    model = LogisticRegression()
    right = np.zeros(len(table), dtype=bool)
    for train, test in folds:
        fitted = model.fit(table[["colour"]].iloc[train], table["label"].iloc[train])
        right[test] = fitted.predict(table[["colour"]].iloc[test]) == table["label"].iloc[test]
    audit = audited(table, folds, ["colour"], classifier=model)
    assert audit.summary()["zoned"]["accuracy"]["pooled"] == round(right.mean(), 4)
    assert list(audit.predictions["patch"]) == [str(row) for row in table.index]


def test_it_reads_as_a_report(table, folds):
    audit = audited(table, folds, ["colour"], classifier=RidgeClassifier(), prediction_locations=table[::7])
    text = repr(audit)
    assert text.startswith("RidgeClassifier on 256 rows in 16 zones, and on their coordinates alone\n")
    scores = audit.to_frame().loc[("RidgeClassifier", "optimism")]
    assert f"{scores['accuracy']:.3f} ({scores['accuracy_low']:.3f} to {scores['accuracy_high']:.3f})" in text
    medians = (np.median(audit.distances[split]) for split in ("zoned", "random"))
    assert "to training: {:.0f} m under spatial folds, {:.0f} m under random ones".format(*medians) in text
    assert "W to the distances of the prediction locations: " in text
    assert "zones are 400 m wide" in text
    assert "W to" not in repr(audited(table, folds, ["colour"]))


def test_features_and_labels_come_in_any_form(table, folds):
    model = RidgeClassifier()
    by_name = audited(table, folds, ["colour", "place"], classifier=model).to_frame()
    frame = pandas.DataFrame(table[["colour", "place"]])
    labels = list(table["label"])
    for features in (frame, frame.to_numpy(), frame.to_numpy().tolist()):
        other = landfold.audit_folds(table, features, labels, folds=folds, classifier=model).to_frame()
        assert other.equals(by_name)
    chosen = make_column_transformer((StandardScaler(), make_column_selector("colour")))
    piped = audited(table, folds, frame, classifier=make_pipeline(chosen, LogisticRegression())).to_frame()
    assert piped.index[0] == ("Pipeline", "spatial")


def test_equal_calls_agree_and_the_seed_counts(table, folds):
    def frame(**changes):
        return audited(table, folds, ["colour"], **{"classifier": RidgeClassifier()} | changes).to_frame()

    first = frame()
    assert frame().equals(first)
    assert not frame(seed=1).equals(first)
    forests = [frame(classifier=None, seed=seed) for seed in (0, 0)]
    assert forests[0].equals(forests[1])
    assert forests[0].index[0] == ("RandomForestClassifier", "spatial")


@pytest.mark.filterwarnings("ignore::landfold.library.folds.FoldWarning")
def test_w_is_that_of_cast():
    """CAST's test-knndm: six points, folds 1 1 1 1 2 2, twenty prediction points."""
    corner = np.array([400_000, 5_800_000])
    train = np.array([(1, 1), (1, 2), (2, 2), (2, 3), (1, 4), (5, 4)]) + corner
    places = (
        np.array([(0.4190187 + 2.2360680 * i, 1.4851710 + 2.2360680 * j) for i in range(5) for j in range(4)]) + corner
    )
    table = geopandas.GeoDataFrame(geometry=geopandas.points_from_xy(*train.T), crs=CRS_UTM33)
    folds = landfold.spatial_folds(table, k=2, zones=[1, 1, 1, 1, 2, 2])
    series = geopandas.GeoSeries.from_xy(*places.T, crs=CRS_UTM33).to_crs("EPSG:4326")
    for locations in (places, series):
        audit = landfold.audit_folds(table, train, list("ababab"), folds=folds, prediction_locations=locations)
        assert audit.wasserstein_m()["zoned"] == pytest.approx(1.091896, abs=1e-5)
    assert audit.warnings() == [], "points have no width"


@pytest.mark.filterwarnings("ignore::landfold.library.folds.FoldWarning")
def test_zones_narrower_than_the_range_are_warned_of_in_words_of_the_library():
    rng = np.random.default_rng(0)
    x, y = rng.uniform(0, 8000, (2, 400))
    hard = np.sin(x / 1500) * np.sin(y / 1500) > 0
    label = rng.integers(0, 2, 400)
    table = geopandas.GeoDataFrame(
        {"feature": np.where(hard, rng.integers(0, 2, 400), label), "label": label},
        geometry=geopandas.points_from_xy(400_000 + x, 5_800_000 + y),
        crs=CRS_UTM33,
    )
    folds = landfold.spatial_folds(table, k=5, block_size_m=800, label="label")
    audit = audited(table, folds, ["feature"])
    (warning,) = audit.warnings()
    assert " m wide, but errors resemble each other over " in warning or "still grow less alike" in warning
    assert "raise block_size_m" in warning
    assert repr(audit).endswith(f"warning: {warning}")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"table": "reversed"},
            AuditError,
            "the table is not the one that the folds were made of: its index is",
        ),
        ({"features": ["blue"]}, AuditError, "features: no column blue; the table has label, colour, place, geometry"),
        (
            {"features": np.zeros((5, 2))},
            AuditError,
            r"features: of shape \(5, 2\), expected \(256, number of feat",
        ),
        ({"features": np.zeros(256)}, AuditError, r"features: of shape \(256,\), expected \(256, number of feat"),
        ({"labels": "class"}, FoldError, "labels: no column 'class'; the table has"),
        (
            {"classifier": GradientBoostingRegressor()},
            AuditError,
            "GradientBoostingRegressor is no classifier: the",
        ),
        (
            {"prediction_locations": [1, 2]},
            FoldError,
            r"prediction_locations: of shape \(2,\), expected \(number",
        ),
    ],
)
def test_what_cannot_be_audited_is_refused(table, folds, change, error, message):
    arguments = {"table": table, "features": ["colour"], "labels": "label", "folds": folds} | change
    if change.get("table"):
        arguments["table"] = table[::-1]
    with pytest.raises(error, match=message):
        landfold.audit_folds(**arguments)
