import geopandas
import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from landfold.core.settings import SettingsError, validate
from landfold.folds.settings import ZoneSettings
from landfold.folds.zones import (
    Blocks,
    Hexagons,
    ZoneError,
    in_test_region,
    make_zones,
    read_polygon_zones,
    zone_table,
)
from landfold.geo.vector import VectorError
from tests.factories import CRS_UTM33, footprint_table, params

COORDINATES = st.floats(-1e7, 1e7)
SIZES = st.floats(0.5, 1e5)


def zone_settings(**changes):
    return validate(params()["zones"] | changes, ZoneSettings, where="zones")


def zones_of(points, size=10.0, origin=(0.0, 0.0)):
    x, y = np.array(points, dtype=float).reshape(-1, 2).T
    return list(Blocks(size, origin).at(x, y))


def test_blocks_are_half_open_so_a_point_on_a_border_is_in_one():
    assert zones_of([(0, 0), (9.999, 9.999), (10, 0), (0, 10), (10, 10), (20, 19)]) == [
        *("E0N0", "E0N0", "E1N0", "E0N1", "E1N1", "E2N1")
    ]


def test_blocks_go_on_below_zero_without_a_double_one():
    assert zones_of([(-0.001, 0), (-10, 0), (-10.001, -5), (0, -10)]) == ["E-1N0", "E-1N0", "E-2N-1", "E0N-1"]


@given(st.lists(st.tuples(COORDINATES, COORDINATES), max_size=30), SIZES, st.tuples(COORDINATES, COORDINATES))
@hypothesis_settings(max_examples=100, deadline=None)
def test_the_name_of_a_block_has_its_numbers_below_zero_too(points, size, origin):
    numbers = [[int(np.floor((at - start) / size)) for at, start in zip(p, origin, strict=True)] for p in points]
    assert zones_of(points, size, origin) == [f"E{east}N{north}" for east, north in numbers]


@pytest.mark.parametrize("q", [-300_000, -2, -1, 0, 1, 300_000])
@pytest.mark.parametrize("r", [-200_000, -1, 0, 3, 200_000])
def test_the_name_of_a_hexagon_has_its_numbers_below_zero_too(q, r):
    rule = Hexagons(50.0, (3.0, -4.0))
    x, y = 3 + (q + r / 2) * 50, -4 + r * np.sqrt(3) / 2 * 50
    assert list(rule.at(np.array([x, x + 20, x - 20]), np.array([y, y + 3, y - 3]))) == [f"Q{q}R{r}"] * 3


def test_the_origin_is_where_four_blocks_meet():
    around = [(102, 203), (101.9, 203), (102, 202.9), (101.9, 202.9)]
    assert zones_of(around, origin=(102, 203)) == ["E0N0", "E-1N0", "E0N-1", "E-1N-1"]
    assert zones_of(around, origin=(2, 3)) == ["E10N20", "E9N20", "E10N19", "E9N19"]


def test_utm_coordinates_give_the_names_of_the_documentation():
    assert zones_of([(327_700, 5_813_800)], size=2560) == ["E128N2271"]


@given(
    st.lists(st.tuples(COORDINATES, COORDINATES), min_size=1, max_size=30), SIZES, st.tuples(COORDINATES, COORDINATES)
)
@hypothesis_settings(max_examples=100, deadline=None)
def test_the_polygon_of_a_zone_contains_its_points(points, size, origin):
    for point, zone in zip(points, zones_of(points, size, origin), strict=True):
        polygon = Blocks(size, origin).polygon(zone)
        assert polygon.distance(shapely.Point(point)) <= 1e-8 * (1 + max(map(abs, [*point, *origin])))
        assert polygon.area == pytest.approx(size**2, rel=1e-4)


@given(
    st.lists(st.tuples(COORDINATES, COORDINATES), min_size=1, max_size=20), st.tuples(COORDINATES, COORDINATES), SIZES
)
@hypothesis_settings(max_examples=60, deadline=None)
def test_more_data_never_moves_a_zone(points, another, size):
    alone = zones_of(points, size)
    assert zones_of([another, *points], size)[1:] == alone
    assert zones_of(points[::-1], size)[::-1] == alone


@pytest.mark.parametrize("change", [{"size": 12.5}, {"origin": (3.0, 0.0)}, {"origin": (0.0, 3.0)}])
def test_size_and_origin_change_the_zones(change):
    points = [(1, 1), (11, 12), (25, 37)]
    assert zones_of(points, **change) != zones_of(points)


def test_the_table_counts_patches_and_keeps_folds():
    names = np.array(["E1N0", "E0N0", "E1N0", "E10N0"], dtype=object)
    found = zone_table(names, np.array([1, 0, 1, 1]), Blocks(100, (5, 7)), CRS_UTM33)
    assert list(found["zone"]) == ["E0N0", "E10N0", "E1N0"]
    assert list(found["fold"]) == [0, 1, 1]
    assert list(found["patches"]) == [1, 1, 2]
    assert found.geometry[2].bounds == (105, 7, 205, 107)
    assert found.crs == CRS_UTM33


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"folds": [0, 1, 2]}, r"zones: folds must be \[0, 1\] for k: 2, found \[0, 1, 2\]"),
        ({"k": 3}, r"folds must be \[0, 1, 2\] for k: 3, found \[0, 1\]"),
        ({"folds": [1, 0]}, r"folds must be \[0, 1\] for k: 2, found \[1, 0\]"),
        ({"k": 1, "folds": [0]}, r"zones\.k: found 1: .*greater than or equal to 2"),
        ({"block_size_m": 0}, r"zones\.block_size_m: found 0: .*greater than 0"),
        ({"buffer_m": -1}, r"zones\.buffer_m: found -1"),
        ({"origin_m": [0]}, r"zones\.origin_m"),
        ({"kind": "hexagons"}, r"zones\.kind: found 'hexagons'"),
        ({"repeats": 2}, r"folds must be \[0, 1, 2, 3\] for k: 2 and repeats: 2, found \[0, 1\]"),
        ({"repeats": 0}, r"zones\.repeats: found 0"),
        ({"block_size_m": None}, "kind: grid needs block_size_m; it is null"),
        ({"kind": "scene"}, "kind: scene has no use for block_size_m; set it to null"),
        ({"clusters": 4}, "kind: grid has no use for clusters; set it to null"),
        ({"kind": "kmeans", "block_size_m": None, "origin_m": None}, "kind: kmeans needs clusters; it is null"),
        ({"kind": "polygons", "block_size_m": None, "origin_m": None}, "kind: polygons needs file; it is null"),
        ({"tries": 9}, "assignment: stratified has no use for tries; set it to null"),
        ({"assignment": "balanced"}, "assignment: balanced needs tries; it is null"),
        (
            {"test_region": [0, 0, 0, 5]},
            r"test_region must be \[x_min, y_min, x_max, y_max\], found \[0\.0, 0\.0, 0\.0",
        ),
        ({"test_region": "../labels.gpkg"}, "expected a path below data/raw"),
        ({"test_region": "/home/labels.gpkg"}, "expected a path below data/raw"),
    ],
)
def test_settings_that_make_no_zones_are_refused(changes, message):
    with pytest.raises(SettingsError, match=message):
        zone_settings(**changes)


def hexagons_of(points, size=10.0, origin=(0.0, 0.0)):
    x, y = np.array(points, dtype=float).reshape(-1, 2).T
    return list(Hexagons(size, origin).at(x, y))


def test_hexagons_are_numbered_along_two_axes_from_the_origin():
    up = 10 * np.sqrt(3) / 2
    around = [(0, 0), (10, 0), (5, up), (-5, up), (-10, 0), (-5, -up), (5, -up), (0, 2 * up)]
    assert hexagons_of(around) == ["Q0R0", "Q1R0", "Q0R1", "Q-1R1", "Q-1R0", "Q0R-1", "Q1R-1", "Q-1R2"]
    moved = [(x + 102, y - 3) for x, y in around]
    assert hexagons_of(moved, origin=(102, -3)) == hexagons_of(around)


def test_a_point_on_an_edge_or_corner_of_hexagons_is_in_the_one_with_the_largest_numbers():
    assert hexagons_of([(5, 0), (5 - 1e-9, 0), (-5, 0), (-5 - 1e-9, 0)]) == ["Q1R0", "Q0R0", "Q0R0", "Q-1R0"]
    corner = (5.0, 5 / np.sqrt(3))  # of Q0R0, Q1R0 and Q0R1
    assert hexagons_of([corner])[0] in {"Q1R0", "Q0R1", "Q0R0"}
    assert hexagons_of([(15.0, 0.0), (25.0, 0.0)]) == ["Q2R0", "Q3R0"]


@given(
    st.lists(st.tuples(COORDINATES, COORDINATES), min_size=1, max_size=30), SIZES, st.tuples(COORDINATES, COORDINATES)
)
@hypothesis_settings(max_examples=100, deadline=None)
def test_a_hexagon_is_the_nearest_of_all_and_has_the_size_asked_for(points, size, origin):
    for point, zone in zip(points, hexagons_of(points, size, origin), strict=True):
        q, r = (int(part) for part in zone[1:].split("R"))
        slack = 1e-7 * (1 + max(map(abs, [*point, *origin])))
        lattice = [(q + a, r + b) for a in (-2, -1, 0, 1, 2) for b in (-2, -1, 0, 1, 2)]
        gaps = [
            np.hypot(point[0] - origin[0] - size * (a + b / 2), point[1] - origin[1] - size * b * np.sqrt(3) / 2)
            for a, b in lattice
        ]
        assert gaps[lattice.index((q, r))] <= min(gaps) + slack
        polygon = Hexagons(size, origin).polygon(zone)
        assert polygon.distance(shapely.Point(point)) <= slack
        assert polygon.area == pytest.approx(size**2 * np.sqrt(3) / 2, rel=1e-4)
        assert polygon.bounds[2] - polygon.bounds[0] == pytest.approx(size, rel=1e-4, abs=slack)


def patches_at(points, **columns):
    x, y = np.array(points, dtype=float).reshape(-1, 2).T
    table = footprint_table(x, y, "", 0, size_m=2.0).drop(columns=["zone", "fold"])
    return table.assign(**{"scene": "s", "x": x, "y": y} | columns)


FREE = {"block_size_m": None, "origin_m": None}


@given(
    st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)), min_size=2, max_size=30),
    st.integers(1, 10),
    st.sampled_from(["grid", "hexagon", "scene", "label", "polygons"]),
    st.integers(0, 2),
)
@hypothesis_settings(max_examples=100, deadline=None)
def test_more_data_never_moves_a_zone_of_any_kind_but_clusters(points, more, kind, repeat):
    places = [float(int(x)) + 0.5 for x, _ in points]
    patches = patches_at(
        points, scene=[f"s{int(x) % 7}" for x, _ in points], zone_value=[f"v{int(place)}" for place in places]
    )
    areas = geopandas.GeoDataFrame(
        {"zone": ["w", "e"]}, geometry=[shapely.box(-9, -9, 50, 109), shapely.box(50, -9, 109, 109)]
    )
    own = {"scene": FREE, "label": FREE, "polygons": {**FREE, "file": "zones.gpkg", "attribute": "zone"}}.get(kind, {})
    settings = zone_settings(kind=kind, **{"block_size_m": 30, **own})
    few = patches[: max(1, len(patches) - more)]
    names = make_zones(settings, patches, areas, repeat=repeat).of(patches)
    assert list(make_zones(settings, few, areas, repeat=repeat).of(few)) == list(names[: len(few)])
    backwards = patches[::-1].reset_index(drop=True)
    assert list(make_zones(settings, backwards, areas, repeat=repeat).of(backwards)) == list(names[::-1])


@pytest.mark.parametrize("kind", ["grid", "hexagon"])
def test_repeats_move_the_blocks_by_the_r2_sequence(kind):
    """(1/g, 1/g^2) with g^3 = g + 1."""
    g = 1.32471795724474602596
    settings = zone_settings(kind=kind, block_size_m=100, origin_m=[7, 9])
    patches = patches_at([(0, 0)])
    origins = [make_zones(settings, patches, repeat=repeat).origin_m for repeat in range(30)]
    assert origins[0] == (7, 9)
    across, up = 1 / g, 1 / g**2
    expected = (7 + 100 * across, 9 + 100 * up)
    if kind == "hexagon":
        expected = (7 + 100 * (across + up / 2), 9 + 100 * up * np.sqrt(3) / 2)
    assert origins[1] == pytest.approx(expected)
    steps = np.array([[repeat / g % 1, repeat / g**2 % 1] for repeat in range(30)])
    gaps = np.abs(steps[:, None] - steps[None])
    apart = np.linalg.norm(np.minimum(gaps, 1 - gaps), axis=-1)
    assert apart[~np.eye(30, dtype=bool)].min() > 0.1, "30 repeats are nowhere close to one another"


def test_a_cell_of_the_map_has_the_scene_or_label_of_the_nearest_patch():
    points = [(0, 0), (10, 0), (30, 0)]
    x, y = np.array([-99.0, 4, 6, 19, 21]), np.zeros(5)
    scenes = make_zones(zone_settings(kind="scene", **FREE), patches_at(points, scene=["a", "b", "c"]))
    labels = make_zones(zone_settings(kind="label", **FREE), patches_at(points, zone_value=["u", "u", "w"]))
    assert list(scenes.at(x, y)) == ["a", "a", "b", "b", "c"]
    assert list(labels.at(x, y)) == ["u", "u", "u", "u", "w"]
    assert scenes.polygon("a") is None


def test_the_ground_of_zones_without_a_polygon_is_that_of_their_patches():
    patches = patches_at([(0, 0), (10, 0), (1, 0)], scene=["a", "b", "a"])
    rule = make_zones(zone_settings(kind="scene", **FREE), patches)
    found = zone_table(rule.of(patches), np.array([0, 1, -1]), rule, CRS_UTM33, footprints=patches.geometry.to_numpy())
    assert list(found["zone"]) == ["a", "b"]
    assert list(found["fold"]) == [0, 1]
    assert found.geometry[0].equals(shapely.box(-1, -1, 2, 1))


def test_labels_without_the_attribute_or_a_value_are_refused():
    settings = zone_settings(kind="label", **FREE)
    with pytest.raises(ZoneError, match=r"kind: label needs labels\.zone_attribute, of kind polygons"):
        make_zones(settings, patches_at([(0, 0), (5, 5)]))
    with pytest.raises(ZoneError, match=r"1 of 2 patches lie on label polygons without a value .*\(patch s/1\)"):
        make_zones(settings, patches_at([(0, 0), (5, 5)], zone_value=["a", None]))


def test_clusters_are_the_nearest_centres_and_change_with_their_number_and_seed():
    rng = np.random.default_rng(0)
    around = np.array([[4e5, 58e5], [4.1e5, 58e5], [4e5, 58.1e5]])
    patches = patches_at((around[:, None] + rng.normal(0, 500, (3, 20, 2))).reshape(-1, 2))
    settings = zone_settings(kind="kmeans", clusters=3, **FREE)
    rule = make_zones(settings, patches)
    names = rule.of(patches).reshape(3, 20)
    assert [len(set(row)) for row in names] == [1, 1, 1]
    assert list(rule.at(*around.T)) == list(names[:, 0])
    assert sorted(set(names.ravel())) == ["C0", "C1", "C2"]
    more = zone_settings(kind="kmeans", clusters=12, **FREE)
    assert len(set(make_zones(more, patches).of(patches))) == 12
    assert list(make_zones(more, patches).of(patches)) == list(make_zones(more, patches).of(patches))
    assert (make_zones(more, patches, repeat=1).of(patches) != make_zones(more, patches).of(patches)).any()
    with pytest.raises(ZoneError, match=r"zones\.clusters is 12, but the patches are at 5 places; lower it"):
        make_zones(more, patches_at([(i, 0) for i in range(5)]))


def write_zones(path, shapes, *, crs=CRS_UTM33, to=None, names=("north", "south", "far")):
    path.parent.mkdir(parents=True, exist_ok=True)
    table = geopandas.GeoDataFrame({"name": list(names)[: len(shapes)]}, geometry=shapes, crs=crs)
    (table.to_crs(to) if to else table).to_file(path)
    return zone_settings(kind="polygons", file=path.name, attribute="name", **FREE)


BASE = np.array([4e5, 58e5])


def beside(*points):
    """Points in metres from BASE."""
    return BASE + np.array(points, dtype=float).reshape(-1, 2)


def ground(left, bottom, right, top):
    return shapely.box(*beside(left, bottom)[0], *beside(right, top)[0])


HALVES = [ground(0, 50, 100, 100), ground(0, 0, 100, 50)]


@pytest.mark.parametrize("to", [None, "EPSG:4326", "EPSG:32632"])
def test_polygons_of_any_crs_name_the_zones(tmp_path, to):
    settings = write_zones(tmp_path / "zones.gpkg", HALVES, to=to)
    rule = make_zones(settings, patches_at([]), read_polygon_zones(settings, tmp_path, CRS_UTM33))
    patches = patches_at(beside((10, 90), (10, 10), (99, 51), (99, 49)))
    assert list(rule.of(patches)) == ["north", "south", "north", "south"]
    assert rule.polygon("south").equals_exact(HALVES[1], 1e-3)
    x, y = beside((10, 90), (-10, 90)).T
    assert list(rule.at(x, y)) == ["north", ""]


def test_a_centre_on_the_border_of_two_polygons_is_in_the_first_by_name(tmp_path):
    settings = write_zones(tmp_path / "zones.gpkg", HALVES)
    rule = make_zones(settings, patches_at([]), read_polygon_zones(settings, tmp_path, CRS_UTM33))
    assert list(rule.of(patches_at(beside((10, 50), (0, 10))))) == ["north", "south"]


def test_patches_in_no_polygon_or_in_two_are_counted_and_named(tmp_path):
    settings = write_zones(tmp_path / "zones.gpkg", [*HALVES, ground(50, 40, 60, 60)])
    rule = make_zones(settings, patches_at([]), read_polygon_zones(settings, tmp_path, CRS_UTM33))
    with pytest.raises(
        ZoneError, match=r"2 patch centres are inside two zones \(patch s/1, s/2\); correct the polygons"
    ):
        rule.of(patches_at(beside((10, 10), (55, 55), (55, 45))))
    outside = [(200 + i, 10) for i in range(7)]
    with pytest.raises(ZoneError, match=r"7 of 8 patch centres are in no zone \(patch s/1, s/2, .*, s/7\); add"):
        rule.of(patches_at(beside((10, 10), *outside)))


def test_polygons_of_one_name_are_one_zone_even_where_they_overlap(tmp_path):
    settings = write_zones(tmp_path / "zones.gpkg", [*HALVES, ground(0, 40, 100, 60)], names=("a", "a", "a"))
    rule = make_zones(settings, patches_at([]), read_polygon_zones(settings, tmp_path, CRS_UTM33))
    assert list(rule.of(patches_at(beside((10, 45), (10, 95))))) == ["a", "a"]
    assert rule.polygon("a").equals(ground(0, 0, 100, 100))


@pytest.mark.filterwarnings("ignore:'crs' was not provided")
def test_a_file_that_names_no_zones_is_refused(tmp_path):
    settings = write_zones(tmp_path / "zones.gpkg", HALVES)
    for changes, message in (
        ({"attribute": "id"}, r"no attribute 'id' \(zones\.attribute\); the file has name"),
        ({"file": "other.gpkg"}, r"other\.gpkg: not found; zones\.file names a vector file below data/raw"),
    ):
        with pytest.raises((ZoneError, VectorError), match=message):
            read_polygon_zones(settings.model_copy(update=changes), tmp_path, CRS_UTM33)
    cases = {
        "bow.gpkg": (
            [shapely.Polygon([(0, 0), (9, 9), (9, 0), (0, 9)])],
            CRS_UTM33,
            ("a",),
            "1 features are not valid",
        ),
        "line.gpkg": ([shapely.LineString([(0, 0), (9, 9)])], CRS_UTM33, ("a",), "1 features are not valid polygons"),
        "bare.geojson": (HALVES, CRS_UTM33, ("a", None), "1 polygons have no value of 'name'"),
        "free.shp": (HALVES, None, ("a", "b"), r"free\.shp: the file has no CRS, and none is guessed"),
    }
    for name, (shapes, crs, names, message) in cases.items():
        with pytest.raises(VectorError, match=message):
            read_polygon_zones(write_zones(tmp_path / name, shapes, crs=crs, names=names), tmp_path, CRS_UTM33)
    (tmp_path / "text.gpkg").write_text("no polygons")
    with pytest.raises(VectorError, match=r"text\.gpkg: not a vector file that can be read"):
        read_polygon_zones(settings.model_copy(update={"file": "text.gpkg"}), tmp_path, CRS_UTM33)
    geopandas.GeoDataFrame({"name": ["a", "b"]}, geometry=HALVES, crs=CRS_UTM33).to_file(
        tmp_path / "zones.gpkg", layer="b"
    )
    with pytest.raises(VectorError, match=r"zones\.gpkg: 2 layers \(zones, b\); save one of them to a file of its own"):
        read_polygon_zones(settings, tmp_path, CRS_UTM33)
    assert read_polygon_zones(zone_settings(), tmp_path, CRS_UTM33) is None


def test_the_test_region_is_a_box_or_a_file_and_takes_what_shares_ground(tmp_path):
    patches = patches_at(beside((10, 10), (20, 10), (22, 10), (50, 50)))  # 2 m square
    box = list(ground(15, 0, 21, 90).bounds)
    found = in_test_region(patches, zone_settings(test_region=box), tmp_path, CRS_UTM33)
    assert list(found) == [False, True, False, False], "the third only touches it"
    write_zones(tmp_path / "region.gpkg", [shapely.box(*box), ground(40, 40, 60, 60)], to="EPSG:4326")
    found = in_test_region(patches, zone_settings(test_region="region.gpkg"), tmp_path, CRS_UTM33)
    assert list(found) == [False, True, False, True]
    assert not in_test_region(patches, zone_settings(), tmp_path, CRS_UTM33).any()


@pytest.mark.parametrize(("region", "which"), [([0, 0, 9, 9], "no"), ([0, 0, 1e7, 1e7], "all")])
def test_a_test_region_of_no_patch_or_of_all_is_refused(region, which):
    patches = patches_at(beside((10, 10), (20, 10)))
    with pytest.raises(ZoneError, match=rf"test_region: {which} patches share ground .* those of the patches 400009, "):
        in_test_region(patches, zone_settings(test_region=region), None, CRS_UTM33)
