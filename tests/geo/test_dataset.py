import numpy as np
import pytest
import rasterio

from landfold.geo.dataset import RasterError, open_dataset
from tests.factories import make_grid, tree, write_raster
from tests.geo.test_raster import numbers


@pytest.mark.parametrize("content", [None, b"", b"no raster at all"])
def test_what_is_no_raster_is_refused_and_named(tmp_path, content):
    if content is not None:
        (tmp_path / "x.tif").write_bytes(content)
    with pytest.raises(RasterError, match=r"x\.tif: cannot be read \("), open_dataset(tmp_path / "x.tif"):
        pass


def test_decoded_blocks_are_kept(tmp_path):
    """A cache counted in megabytes, which rasterio takes for bytes, made each patch decode its block anew."""
    path = write_raster(tmp_path / "s.tif", {"R": numbers()})
    with open_dataset(path):
        assert 64 * 2**20 <= rasterio.env.getenv()["GDAL_CACHEMAX"] <= 2**30


@pytest.mark.parametrize("name", ["scene.tif", "SCENE.TIFF", "scene.jp2"])
def test_what_is_called_an_image_and_leads_elsewhere_is_refused(tmp_path, name):
    """By its content GDAL would take it for a VRT, whose pixels are the bytes of any file."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"1234")
    (tmp_path / name).write_text(
        '<VRTDataset rasterXSize="2" rasterYSize="2"><VRTRasterBand dataType="Byte" band="1" '
        f'subClass="VRTRawRasterBand"><SourceFilename relativeToVRT="0">{secret}</SourceFilename></VRTRasterBand>'
        "</VRTDataset>"
    )
    with pytest.raises(RasterError, match=rf"{name}: cannot be read"), open_dataset(tmp_path / name):
        pass


def _overviews_of(file):
    return f"<PAMDataset><Metadata domain='OVERVIEWS'><MDI key='OVERVIEW_FILE'>{file}</MDI></Metadata></PAMDataset>"


@pytest.mark.parametrize(
    ("companion", "message"),
    [
        ("scene.tif.msk", r"scene\.tif\.msk: no TIFF, as a mask or overviews"),
        ("SCENE.TIF.OVR", r"SCENE\.TIF\.OVR: no TIFF, as a mask or overviews"),
        ("scene.tif.aux.xml", r"scene\.tif: its tag OVERVIEW_FILE would lead"),
        ("scene.tif.msk.aux.xml", r"scene\.tif\.msk: its tag OVERVIEW_FILE would lead"),
        (None, r"scene\.tif: its tag OVERVIEW_FILE would lead"),
    ],
)
def test_what_lies_beside_an_image_does_not_lead_elsewhere(tmp_path, companion, message):
    """GDAL takes masks and overviews by any of its drivers: these would be the bytes of any file, or of any host."""
    path = write_raster(tmp_path / "scene.tif", {"R": numbers()})
    leads = tmp_path / "leads.vrt"
    leads.write_text(
        '<VRTDataset rasterXSize="90" rasterYSize="70"><VRTRasterBand dataType="Byte" band="1">'
        f"<SimpleSource><SourceFilename>{tmp_path / 'secret'}</SourceFilename></SimpleSource></VRTRasterBand>"
        "</VRTDataset>"
    )
    if companion is None:
        with rasterio.open(path, "r+") as dataset:
            dataset.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=str(leads))
    else:
        if companion == "scene.tif.msk.aux.xml":
            write_raster(tmp_path / "mask.tif", {"R": numbers()}).rename(tmp_path / "scene.tif.msk")
        is_vrt = not companion.endswith(".aux.xml")
        (tmp_path / companion).write_text(leads.read_text() if is_vrt else _overviews_of(leads))
    with pytest.raises(RasterError, match=message), open_dataset(path):
        pass


def test_a_mask_and_overviews_beside_an_image_are_taken(tmp_path):
    path = tmp_path / "scene.tif"
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 1, "height": 600, "width": 700}
    profile |= {"crs": "EPSG:32633", "transform": make_grid(600, 700).transform}
    values = np.ones((1, 600, 700), dtype=np.uint8)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "w", **profile) as dataset:
        dataset.write(values)
        dataset.write_mask(np.arange(600 * 700).reshape(600, 700) % 2 == 0)
    with rasterio.Env(TIFF_USE_OVR=True), rasterio.open(path, "r+") as dataset:
        dataset.build_overviews([2])
    assert {"scene.tif.msk", "scene.tif.ovr"} <= set(tree(tmp_path))
    with open_dataset(path) as dataset:
        assert dataset.overviews(1) == [2]
        assert (dataset.read_masks(1) > 0).mean() == 0.5
