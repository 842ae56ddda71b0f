"""Sections ``project`` and ``ingest`` for given scenes; "?" stands for what only the user can know."""

from collections import Counter
from collections.abc import Sequence
from math import isclose
from statistics import median
from typing import Any

import geopandas
import shapely
from rasterio.crs import CRS
from ruamel.yaml.comments import CommentedMap

from landfold.cli.inspection.commented_yaml import commented
from landfold.cli.inspection.scene_headers import SceneView
from landfold.core.errors import LandfoldError
from landfold.core.settings import validate
from landfold.geo.bands import STANDARD_NAMES
from landfold.geo.crs import is_true_to_scale
from landfold.geo.grid import ALIGNMENT_TOLERANCE_PX
from landfold.geo.settings import ProjectSettings
from landfold.scenes.ingest import check_scene
from landfold.scenes.ingest.common_grid import OWN_GRID_TOLERANCE
from landfold.scenes.ingest.screen import is_level_1c
from landfold.scenes.settings import IngestSettings, MaskSettings

UNKNOWN = "?"
"""The value where the user must decide; no setting accepts it."""

EUROSAT = ["A", "B", "G", "R", "RE1", "RE2", "RE3", "N", "WV", "CIRRUS", "S1", "S2", "N2"]
"""Order of the bands in EuroSAT's tiles of 13 bands (Helber et al. 2019, doi:10.1109/JSTARS.2019.2918242)."""

EUROPE = (-25.0, 32.0, 45.0, 72.0)
"""West, south, east and north in degrees of the area for which EPSG:3035 is made."""

MASK_CLASSES: dict[str, list[Any]] = {
    "scl": [0, 1, 3, 8, 9, 10],
    "qa_pixel": ["fill", "dilated_cloud", "cirrus", "cloud", "cloud_shadow"],
    "fmask": [2, 3, 4, 255],
}

MASK_COMMENTS = {
    "scl": "3 cloud shadow, 8 and 9 cloud, 10 thin cirrus",
    "qa_pixel": "bits of Landsat's QA_PIXEL",
    "fmask": "2 cloud shadow, 3 snow, 4 cloud, 255 no data",
}

L1C_THRESHOLDS = {"coastal": 0.2, "cirrus": 0.012}

MAX_CHECKED = 40
"""Scenes that are checked under each policy; they differ in their grids."""


def least_demanding_settings(bands: list[str]) -> tuple[IngestSettings, ProjectSettings]:
    """Settings that refuse as little as possible, to find faults of a scene that do not depend on settings."""
    values = dict.fromkeys(IngestSettings.model_fields) | {
        **{"bands": bands, "crs_policy": "reproject", "resolution_m": 100, "resampling": "nearest", "scale": 1},
        **{"offset": 0, "masks": {kind: [] for kind in MaskSettings.model_fields} | {"l1c": None}, "min_valid": 0},
        **{"on_refusal": "error"},
    }
    project = {"name": UNKNOWN, "crs": "EPSG:6933"}
    return validate(values, IngestSettings, where="ingest"), validate(project, ProjectSettings, where="project")


def scene_sections(
    views: Sequence[SceneView], name: str, order: list[str | None] | None
) -> tuple[CommentedMap, CommentedMap]:
    """Sections ``project`` and ``ingest`` under which as many scenes as possible are accepted.

    Args:
        views: the scenes.
        name: of the project.
        order: the band order of the user's settings; it is kept where it fits.
    """
    crs, crs_comment = _project_crs([view for view in views if view.grid is not None])
    bands, bands_comment = _bands(views)
    band_order, order_comment = _band_order(views, order)
    values = {
        "bands": (bands, bands_comment),
        "band_order": (band_order, order_comment),
        "resampling": ("bilinear", "nearest | bilinear | cubic: for bands of another pixel size"),
        "scale": _scale(views),
        "offset": _offset(views),
        "nodata": _nodata(views),
        "masks": (_masks(views), ""),
        "min_valid": (0.05, "a scene with a smaller fraction of valid pixels is refused"),
        "on_refusal": ("error", "error | skip: end the run, or leave the scene out"),
        "area": (None, "[x_min, y_min, x_max, y_max] in project.crs: a part only"),
        "mask_file": (None, "masks of your own, such as '{scene}_clouds.tif'"),
    }
    policy, comment, resolution, why = _policy(views, crs, {key: value for key, (value, _) in values.items()})
    values |= {"crs_policy": (policy, comment), "resolution_m": (resolution, why)}
    ingest = [(field, *values.get(field, (None, ""))) for field in IngestSettings.model_fields]
    project = [("name", name, "the MLflow experiment: choose a name"), ("crs", crs, crs_comment)]
    return commented(project), commented(ingest)


def _project_crs(views: Sequence[SceneView]) -> tuple[str, str]:
    systems = {view.crs_name: view.crs for view in views}
    if len(systems) == 1 and is_true_to_scale(crs := next(iter(systems.values()))):
        return _crs_text(crs), "the CRS of all scenes"
    degrees = [bounds for view in views if (bounds := view.degrees())]
    if not degrees:
        return UNKNOWN, "a metric CRS of the area; the scenes have none"
    west, south, east, north = (f(b[i] for b in degrees) for i, f in enumerate((min, min, max, max)))
    if east - west <= 6:
        utm = geopandas.GeoSeries([shapely.box(west, south, east, north)], crs="EPSG:4326").estimate_utm_crs()
        return _crs_text(CRS.from_wkt(utm.to_wkt())), "the UTM zone of the scenes' middle"
    if EUROPE[0] <= west and EUROPE[1] <= south and east <= EUROPE[2] and north <= EUROPE[3]:
        return "EPSG:3035", "equal-area CRS of Europe, since the scenes span several UTM zones"
    return "EPSG:6933", "equal-area CRS of the world; it distorts shapes far from 30 degrees: prefer one of your region"


def _crs_text(crs: CRS) -> str:
    """The code of a CRS, else its WKT."""
    authority = crs.to_authority()
    return ":".join(authority) if authority else crs.to_wkt()


def _bands(views: Sequence[SceneView]) -> tuple[list[str], str]:
    named = [view for view in views if view.bands]
    if not named:
        return [UNKNOWN], "those of band_order that you want to use, such as [B, G, R, N]"
    common = set.intersection(*(set(view.bands) for view in named))
    if common:
        every = set.union(*(set(view.bands) for view in named))
        left = [band for band in STANDARD_NAMES if band in every - common]
        comment = f"not in all scenes: {', '.join(left)}" if left else "fewer is faster"
        return [band for band in STANDARD_NAMES if band in common], comment
    most, count = Counter(tuple(sorted(view.bands)) for view in named).most_common(1)[0]
    comment = f"no band is in all scenes; these are in {count} of {len(named)}"
    return [band for band in STANDARD_NAMES if band in most], comment


def _band_order(views: Sequence[SceneView], order: list[str | None] | None) -> tuple[list[str | None] | None, str]:
    nameless = [view.nameless for view in views if view.nameless]
    if not nameless:
        return None, "the files name their bands"
    if order is not None and any(len(order) == len(texts) for texts in nameless):
        return order, "as it is in your params.yaml"
    texts, count = Counter(nameless).most_common(1)[0]
    files = f"{count} file{'' if count == 1 else 's'}"
    comment = f"fill in the names of the {len(texts)} bands ({files}), in their order; '-' leaves one out"
    if any(texts):
        comment += f". The files call them {', '.join(text or 'nothing' for text in texts)}"
    if len(set(map(len, nameless))) > 1:
        comment += f". Others have {', '.join(sorted({str(len(t)) for t in nameless} - {str(len(texts))}))} bands"
    if any(len(v.nameless) == 13 and v.dtype == "uint16" and v.size_px == (64, 64) for v in views):
        comment += f". If these are EuroSAT's tiles: [{', '.join(EUROSAT)}]"
    return [UNKNOWN] * len(texts), comment


def _scale(views: Sequence[SceneView]) -> tuple[float, str]:
    silent = [view for view in views if view.lacks_radiometry]
    if not silent:
        return 0.0001, "not used: products, tags or floats have it"
    if all(view.dtype == "uint8" for view in silent):
        return 1 / 255, f"check: {_declaring(silent, views, 'scale')}; 8-bit numbers"
    return 0.0001, f"check: {_declaring(silent, views, 'scale')}"


def _offset(views: Sequence[SceneView]) -> tuple[float, str]:
    silent = [view for view in views if view.lacks_radiometry]
    if not silent:
        return 0.0, "not used"
    if any(view.scene.sensor == "sentinel2" and (view.scene.acquired or "9") >= "2022-01-25" for view in silent):
        return 0.0, "check: Sentinel-2 of processing baseline 04.00 (2022-01-25) and later has -0.1"
    return 0.0, "as for scale"


def _nodata(views: Sequence[SceneView]) -> tuple[int, str]:
    silent = [view for view in views if view.lacks_nodata]
    if not silent:
        return 0, "not used: the files declare what is no data"
    return 0, f"check: {_declaring(silent, views, 'nodata value')}; null if 0 is data"


def _declaring(silent: Sequence[SceneView], views: Sequence[SceneView], what: str) -> str:
    count = len(views) - len(silent)
    return f"{count} of {len(views)} scenes have a {what}" if count else f"no scene has a {what}"


def _masks(views: Sequence[SceneView]) -> CommentedMap:
    present = {mask.kind for view in views for mask in view.scene.masks} & MASK_CLASSES.keys()
    absent: dict[str, tuple[Any, str]] = {
        kind: ([], "" if kind == "file" else "no scene has one") for kind in MaskSettings.model_fields
    }
    absent["l1c"] = (None, "no scene is Sentinel-2 L1C with bands A, G, S1 and CIRRUS")
    if any(is_level_1c(view.scene) for view in views):
        absent["l1c"] = (L1C_THRESHOLDS, "reflectance above which Sentinel-2 L1C is cloud, which has no mask")
    values = absent | {kind: (MASK_CLASSES[kind], MASK_COMMENTS[kind]) for kind in present}
    return commented(((kind, *value) for kind, value in values.items()), depth=2)


def _policy(views: Sequence[SceneView], crs: str, values: dict[str, Any]) -> tuple[str, str, float | str, str]:
    """crs_policy and resolution_m with their comments: the mildest policy that refuses no more than reproject."""
    bands = values["bands"]
    sizes = [size for view in views if (size := view.pixel_m(bands))]
    if not sizes or crs == UNKNOWN:
        return "error", "error | reproject | keep", UNKNOWN if not sizes else _tidy(min(sizes)), "metres"
    exact, tidy = float(f"{min(sizes):.10g}"), _tidy(median(size for size in sizes if size <= 1.02 * min(sizes)))
    checked = _representatives(views)
    hopeless = _refused(checked, values | {"crs_policy": "reproject", "resolution_m": tidy}, crs)
    finest = "the finest of these bands, metres"
    own = tidy if isclose(tidy, exact, rel_tol=OWN_GRID_TOLERANCE) else exact
    mild = [("keep", own, "each scene stays on its own grid", f"{finest}; pixels within 1 % of it stay as they are")]
    if len({view.crs_name for view in views if view.crs}) == 1 and all(_divides(exact, view) for view in views):
        mild.insert(0, ("error", exact, "all scenes are in project.crs and north-up", finest))
    if all(view.grid is None or (is_true_to_scale(view.crs) and view.grid.is_north_up) for view in views):
        for policy, resolution, comment, why in mild:
            if _refused(checked, values | {"crs_policy": policy, "resolution_m": resolution}, crs) <= hopeless:
                return policy, comment, _whole(resolution), why
    turned = sorted({v.orientation for v in views if v.orientation and v.orientation != "north-up"})
    reasons = [f"{' and '.join(turned)} grids"] if turned else []
    reasons += ["grids not in metres"] if any(v.unit not in ("m", None) for v in views) else []
    comment = f"scenes are warped onto one grid ({', '.join(reasons) or 'their grids do not fit otherwise'})"
    return "reproject", comment, _whole(tidy), "about the finest of these bands, metres"


def _divides(resolution_m: float, view: SceneView) -> bool:
    """Whether a scene is a whole number of pixels wide and high, as ingest requires under the policy error."""
    if view.grid is None:
        return True
    x_min, y_min, x_max, y_max = view.grid.bounds
    counts = [side / resolution_m for side in (x_max - x_min, y_max - y_min)]
    return sum(abs(count - round(count)) for count in counts) <= ALIGNMENT_TOLERANCE_PX


def _representatives(views: Sequence[SceneView]) -> list[SceneView]:
    """One scene for each kind of grid, so that thousands of tiles need not be checked under every policy."""
    kinds = {
        (v.crs_name, v.size_px, tuple(f"{r:.3g}" for r in v.resolutions), v.orientation, tuple(v.bands)): v
        for v in views
        if v.bands and v.grid is not None
    }
    return list(kinds.values())[:MAX_CHECKED]


def _refused(views: Sequence[SceneView], values: dict[str, Any], crs: str) -> set[str]:
    """Names of the scenes that ingest would refuse."""
    settings = validate(values, IngestSettings, where="ingest") if views else None
    refused = set()
    for view in views:
        try:
            check_scene(view.scene, settings, CRS.from_user_input(crs))
        except LandfoldError:
            refused.add(view.scene.name)
    return refused


def _tidy(size_m: float) -> float:
    """Two digits: 9.98 becomes 10."""
    return float(f"{size_m:.2g}")


def _whole(number: float) -> float | int:
    return int(number) if number == int(number) else number
