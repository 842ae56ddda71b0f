"""Damage that GDAL reads over: archives by their CRC, products by their manifest, JPEG by its messages."""

import hashlib
import zipfile

import numpy as np
import pytest
import rasterio

from landfold.geo.dataset import RasterError
from landfold.geo.grid import Grid
from landfold.scenes.sensors import find_scenes
from landfold.scenes.sensors.scene_files import BandFile
from tests.factories import centres, make_grid, small_scene, write_band
from tests.products import write_safe, zipped
from tests.scenes.ingest.deliveries import ingest, ramp, refused, scene_of

GRID = {"bands": ["A"], "resolution_m": 60, "nodata": None}


def flip(path, at):
    """Change one bit of a file; ``at`` is a share of its length."""
    content = bytearray(path.read_bytes())
    content[int(len(content) * at)] ^= 1
    path.write_bytes(content)


def with_manifest(root, name="SHA3-256", algorithm="sha3_256"):
    """A product whose manifest has the checksums of its images, as ESA's has."""
    entries = "".join(
        f'<dataObject><byteStream><fileLocation href="./{path.relative_to(root).as_posix()}"/>'
        f'<checksum checksumName="{name}">{hashlib.new(algorithm, path.read_bytes()).hexdigest().upper()}</checksum>'
        "</byteStream></dataObject>"
        for path in sorted(root.rglob("*.jp2"))
    )
    (root / "manifest.safe").write_text(f"<x><dataObjectSection>{entries}</dataObjectSection></x>", encoding="utf-8")
    return root


@pytest.mark.parametrize("names", [("SHA3-256", "sha3_256"), ("MD5", "md5")])
@pytest.mark.parametrize("archived", [False, True])
def test_a_flipped_bit_of_a_product_is_found_by_its_manifest(tmp_path, names, archived):
    root = write_safe(tmp_path / "product", files={"B01": (60,)})
    [image] = root.rglob("*_B01_60m.jp2")
    with rasterio.open(image) as file:
        grid = Grid.of(file)
    write_band(image, grid, np.random.default_rng(0).integers(1, 9000, grid.shape, dtype=np.uint16))
    with_manifest(root, *names)

    def deliver():
        (tmp_path / "raw").mkdir(exist_ok=True)
        return find_scenes(zipped(root, tmp_path / "raw/p.zip").parent if archived else tmp_path / "product")[0]

    assert ingest(tmp_path, deliver(), **GRID)[2].any()
    (tmp_path / "out/s.tif").unlink()
    flip(image, 0.9)
    with rasterio.open(image) as file:
        file.read()  # GDAL has nothing to say
    refused(
        tmp_path, RasterError, rf"the {names[1]} of .*_B01_60m\.jp2 is .*, but manifest\.safe has", deliver(), **GRID
    )


def test_a_damaged_member_of_an_archive_is_found_by_its_crc(tmp_path):
    small_scene(tmp_path / "files")
    archive, member = tmp_path / "product.zip", "T33UUU_20170216T102101_B02.tif"
    with zipfile.ZipFile(archive, "w") as file:
        file.write(next((tmp_path / "files").rglob(member)), member)
    scene = scene_of(BandFile("B", "B02", archive, source=f"/vsizip/{{{archive}}}/{member}"))
    assert ingest(tmp_path, scene, bands=["B"])[2].any()
    (tmp_path / "out/s.tif").unlink()
    flip(archive, 0.7)
    refused(
        tmp_path,
        RasterError,
        rf"product\.zip: {member} in it is damaged or cannot be read \(Bad CRC",
        scene,
        bands=["B"],
    )


def test_a_damaged_jpeg_is_refused_though_gdal_only_warns(tmp_path):
    grid = make_grid(256, 256)
    path = write_band(tmp_path / "raw" / "S_B02.tif", grid, (ramp(*centres(grid)) / 20).astype(np.uint8))
    with rasterio.open(path) as file:
        profile, values = file.profile | {"compress": "jpeg", "tiled": True}, file.read()
    with rasterio.open(path, "w", **profile) as file:
        file.write(values)
    assert ingest(tmp_path, bands=["B"])[2].any()
    (tmp_path / "out/s.tif").unlink()
    content = path.read_bytes()
    end = content.rindex(b"\xff\xd9")
    path.write_bytes(content[: end - 40] + bytes(40) + content[end:])
    refused(tmp_path, RasterError, r"S_B02\.tif: cannot be read \(.*Corrupt JPEG data", bands=["B"])
