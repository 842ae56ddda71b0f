import geopandas
import numpy as np
import pandas
import pytest
import rasterio
import shapely

from landfold.accuracy.next_labels import (
    MEASURES,
    MapLayers,
    NextError,
    choose,
    find_maps,
    measure_ranks,
    read_squares,
    reasons,
    scores,
    write_next,
)
from landfold.cli import main
from landfold.geo.vector import VectorError
from landfold.geo.writer import create
from tests import factories

SHAPE = (70, 100)
"""Of a map with cells of 40 m: squares of 4 cells, the last row of 2."""


def write_map(folder, scene="s", *, ensemble=True, x_px=0, crs=factories.CRS_UTM33, crop=0, margin=True):
    """A map with fields in the west, whose dissimilarity grows to the south and disagreement to the east."""
    grid = factories.make_grid(*SHAPE, 40.0, x_px=x_px, crs=crs)
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    classes = np.where(columns < 50, 1, 2).astype(np.uint8)
    classes[:8, :7] = 0
    with create(folder / f"{scene}_class.tif", grid, ["class"], dtype="uint8", nodata=0) as writer:
        writer.describe_classes({1: "field", 2: "water"}, {1: (1, 2, 3), 2: (4, 5, 6)})
        writer.write(grid.whole, classes[None])
    nodata = np.where(classes == 0, np.nan, 1)
    kind = "_ensemble" if ensemble else ""
    layers = {
        f"{kind}_confidence": {
            "confidence": 0.5 * nodata,
            "disagreement": columns / 100 * nodata,
            "margin": (1 - columns / 100) * nodata,
        },
        f"{kind}_applicability": {"dissimilarity": rows / 70 * nodata, "applicable": nodata},
    }
    if not margin:
        layers[f"{kind}_confidence"].pop("margin")
    for name, bands in layers.items():
        values = {band: part.astype(np.float32)[: SHAPE[0] - crop] for band, part in bands.items()}
        own = factories.make_grid(SHAPE[0] - crop, SHAPE[1], 40.0, x_px=x_px, crs=crs)
        factories.write_raster(folder / f"{scene}{name}.tif", values, grid=own, nodata=np.nan)
    return folder / f"{scene}_class.tif"


def write_labels(path, *boxes, crs=None):
    return factories.write_labels(path, [("crop", factories.box(*box)) for box in boxes], to=crs)


@pytest.fixture
def folder(tmp_path):
    write_map(tmp_path)
    write_labels(tmp_path / "labels.gpkg", (3000, 0, 4000, 1000))
    return tmp_path


def test_squares_have_the_class_of_most_cells_and_the_means_of_those_with_data(folder):
    squares = read_squares(MapLayers.of(folder / "s_class.tif"))
    x = (squares.geometry.x - factories.ORIGIN_X).to_numpy()
    y = (factories.ORIGIN_Y - squares.geometry.y).to_numpy()
    assert len(squares) == 25 * 18 - 4, "two squares of the corner have no data, two have a quarter of it"
    assert set(zip(x, y, strict=True)) >= {(3920, 80), (80, 2760), (240, 400)}
    column, row = x / 40 - 0.5, y / 40 - 0.5
    whole = (y > 320) | (x > 320)
    np.testing.assert_allclose(squares["disagreement"][whole], (column / 100)[whole], atol=1e-6)
    np.testing.assert_allclose(squares["dissimilarity"][whole], (row / 70)[whole], atol=1e-6)
    np.testing.assert_allclose(squares["margin"][whole], 1 - (column / 100)[whole], atol=1e-6)
    assert list(squares["class"]) == ["field" if west else "water" for west in x <= 2000]
    assert set(squares["scene"]) == {"s"}


def test_points_are_far_from_labels_and_from_each_other_and_the_best_comes_first(folder):
    table = write_next(find_maps([folder]), folder / "labels.gpkg", folder / "next.gpkg", points=12, spacing_m=700)
    found = geopandas.read_file(folder / "next.gpkg", layer="next")
    assert found.crs == factories.CRS_UTM33
    assert list(found["rank"]) == list(range(1, 13))
    columns = ["rank", "scene", "class", *MEASURES, "score", "reason", "x", "y"]
    assert sorted(found.columns.drop("geometry")) == sorted(columns)
    assert (np.diff(table["score"]) <= 0).all()
    places = shapely.points(found["x"], found["y"])
    assert (found.geometry.to_numpy() == places).all()
    apart = shapely.distance(places[:, None], places) + np.where(np.eye(12), 1e9, 0)
    assert apart.min() >= 700
    first = found.iloc[0]
    assert (first["class"], first["dissimilarity"] > 0.9, first["disagreement"] > 0.9) == ("water", True, True)
    assert first["margin"] < 0.1
    near = squares_of(folder)
    ranks = measure_ranks(near)
    expected = ranks["margin"] / 2 + (ranks["dissimilarity"] + ranks["disagreement"] + ranks["distance_m"]) / 6
    assert first["score"] == pytest.approx(expected.max(), abs=1e-4)
    box = factories.box(3000, 0, 4000, 1000)
    np.testing.assert_allclose(found["distance_m"], shapely.distance(places, box), atol=0.1)
    assert (found["distance_m"] > 0).all()


def squares_of(folder):
    """The squares that are not labelled, with their distance to the label."""
    squares = read_squares(MapLayers.of(folder / "s_class.tif"))
    squares["distance_m"] = squares.distance(factories.box(3000, 0, 4000, 1000))
    return squares[squares["distance_m"] > 0]


def test_labels_in_another_crs_are_the_same_labels(folder):
    write_labels(folder / "degrees.gpkg", (3000, 0, 4000, 1000), crs="EPSG:4326")
    maps = find_maps([folder])
    one, other = (
        write_next(maps, folder / f"{name}.gpkg", folder / f"{name}-next.gpkg", points=5, spacing_m=500)
        for name in ("labels", "degrees")
    )
    pandas.testing.assert_frame_equal(one[["rank", "x", "y"]], other[["rank", "x", "y"]])


def test_a_label_moves_the_points_away(folder):
    """Where the first point was, there is a label now."""
    maps, points = find_maps([folder]), {"points": 1, "spacing_m": 0}
    first = write_next(maps, folder / "labels.gpkg", folder / "1.gpkg", **points).iloc[0]
    east, south = first["x"] - factories.ORIGIN_X, factories.ORIGIN_Y - first["y"]
    write_labels(folder / "more.gpkg", (3000, 0, 4000, 1000), (east - 300, south - 300, east + 300, south + 300))
    second = write_next(maps, folder / "more.gpkg", folder / "2.gpkg", **points).iloc[0]
    assert np.hypot(second["x"] - first["x"], second["y"] - first["y"]) > 300


def test_the_ensemble_is_taken_before_the_plain_layers(folder):
    found = MapLayers.of(folder / "s_class.tif")
    assert found.confidence.name == "s_ensemble_confidence.tif"
    write_map(folder, "new", ensemble=False)
    found = MapLayers.of(folder / "new_class.tif")
    assert (found.confidence.name, found.applicability.name) == ("new_confidence.tif", "new_applicability.tif")


def test_a_folder_has_each_scene_once(folder):
    write_map(folder, "t", x_px=100)
    for name in ("s_ensemble_class.tif", "mosaic_class.tif"):
        (folder / name).write_bytes((folder / "s_class.tif").read_bytes())
    assert [layers.classes.name for layers in find_maps([folder])] == ["s_class.tif", "t_class.tif"]
    labels, target = folder / "labels.gpkg", folder / "n.gpkg"
    table = write_next(find_maps([folder]), labels, target, points=10, spacing_m=400)
    assert set(table["scene"]) == {"s", "t"}


def test_choose_takes_the_highest_that_is_free():
    x = np.array([0.0, 10, 20, 30, 100])
    score = np.array([1.0, 5, 4, 3, 2])
    assert choose(score, x, np.zeros(5), points=5, spacing_m=20).tolist() == [1, 3, 4]
    assert choose(score, x, np.zeros(5), points=2, spacing_m=0).tolist() == [1, 2]
    assert choose(np.ones(5), x, np.zeros(5), points=3, spacing_m=15).tolist() == [0, 2, 4], "the first of equals"


def test_ranks_do_not_depend_on_units_and_reasons_name_what_is_high():
    squares = pandas.DataFrame({name: np.arange(20.0) for name in MEASURES})
    squares["distance_m"] = squares["distance_m"][::-1].to_numpy() ** 3
    ranks = measure_ranks(squares)
    assert ranks["dissimilarity"].tolist() == pytest.approx((np.arange(20) + 0.5) / 20)
    pandas.testing.assert_frame_equal(measure_ranks(squares * 7), ranks)
    assert scores(ranks)[0] == pytest.approx((0.975 + (0.025 + 0.025 + 0.975) / 3) / 2)
    words = reasons(ranks)
    assert words[19] == "unlike the training patches, the networks disagree"
    assert words[0] == "far from labels, two classes are about as probable"
    assert ranks["margin"].tolist() == ranks["dissimilarity"].tolist()[::-1]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (
            lambda f: (f / "s_ensemble_applicability.tif").unlink(),
            r"s_applicability\.tif: not found, and needed .*export",
        ),
        (
            lambda f: (f / "s_ensemble_confidence.tif").unlink(),
            r"s_confidence\.tif: not found, .*; map the scene again",
        ),
        (lambda f: (f / "s_class.tif").unlink(), "no map; expected a folder with SCENE_class.tif"),
        (lambda f: write_map(f, crop=2), r"s_ensemble_applicability\.tif: another grid than .*s_class\.tif"),
        (lambda f: write_map(f, "t", crs=rasterio.CRS.from_epsg(32632)), r"t_class\.tif: another CRS than .*s_class"),
        (
            lambda f: (f / "next.gpkg").write_text("mine"),
            r"next\.gpkg: exists, or is no GeoPackage; give -o a new name",
        ),
        (lambda f: write_map(f, margin=False), r"s_ensemble_confidence\.tif: no band margin; .*export\.layers"),
        (lambda f: (f / "labels.gpkg").unlink(), r"labels\.gpkg: not"),
        (lambda f: write_labels(f / "labels.gpkg", (-99, -99, 9999, 9999)), "all squares of the maps are labelled"),
    ],
)
def test_what_is_missing_or_does_not_fit_is_named(folder, fault, message):
    fault(folder)
    with pytest.raises((NextError, VectorError), match=message):
        write_next(find_maps([folder]), folder / "labels.gpkg", folder / "next.gpkg", points=3, spacing_m=100)


def test_the_command_writes_the_points_and_says_where_the_first_are(folder, capsys):
    arguments = ["next", str(folder), "-n", "500", "-o", str(folder / "next.gpkg"), "--spacing", "1500"]
    assert main([*arguments, "--labels", str(folder / "labels.gpkg")]) == 0
    found = geopandas.read_file(folder / "next.gpkg")
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first == f"{folder}/next.gpkg: {len(found)} points (500 asked for; a smaller --spacing gives more)"
    assert second == f"  1. {found['x'][0]:.0f} {found['y'][0]:.0f}: {found['reason'][0]}"
    assert main([*arguments, "--labels", str(folder / "labels.gpkg")]) == 1
    assert "landfold next: " in capsys.readouterr().err
    assert main(["next", str(folder), "-n", "0", "-o", str(folder / "other.gpkg")]) == 1
    assert "-n 0, --spacing 500: expected 1 or more points" in capsys.readouterr().err
    assert not (folder / "other.gpkg").exists()
