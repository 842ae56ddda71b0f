import subprocess
import sys
import textwrap

import numpy as np
import pytest
import rasterio
from rasterio.enums import MaskFlags
from rasterio.windows import Window

from landfold.geo.raster import Raster
from landfold.geo.writer import create, to_cog
from tests.factories import centres, leftovers, make_grid, tree, write_raster
from tests.geo.test_raster import numbers, whole


def test_the_file_is_tiled_masked_inside_and_without_companions(tmp_path):
    write_raster(tmp_path / "s.tif", {"R": numbers(300, 310)}, valid=numbers(300, 310) > 5000)
    with rasterio.open(tmp_path / "s.tif") as dataset:
        assert dataset.block_shapes == [(256, 256)]
        assert dataset.compression.name == "deflate"
        assert MaskFlags.per_dataset in dataset.mask_flag_enums[0]
    assert list(tree(tmp_path)) == ["s.tif"]


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_equal_content_is_equal_bytes(tmp_path, dtype):
    values = {"R": numbers().astype(dtype)}
    one = write_raster(tmp_path / "one" / "s.tif", values, valid=numbers() > 2000)
    two = write_raster(tmp_path / "two" / "t.tif", values, valid=numbers() > 2000)
    assert one.read_bytes() == two.read_bytes()


def test_a_failure_while_writing_leaves_the_earlier_raster(tmp_path):
    path = write_raster(tmp_path / "s.tif", {"R": numbers()})
    before = tree(tmp_path)
    grid = make_grid(70, 90)
    with (
        pytest.raises(ZeroDivisionError, match="by zero"),
        create(path, grid, ["R"], dtype="uint16") as writer,
    ):
        writer.write(Window(0, 0, 90, 70), numbers()[None])
        1 / 0  # noqa: B018
    assert tree(tmp_path) == before


def test_a_full_disk_is_told_as_such_and_leaves_nothing(tmp_path):
    """The limit on the size of a file stands for the disk; GDAL meets both in the same place."""
    program = """
        import resource, signal, sys
        from pathlib import Path
        import numpy as np
        from landfold.geo.raster import Raster
        from landfold.geo.writer import RasterWriteError, create
        from tests.factories import make_grid, write_raster

        folder = Path(sys.argv[1])
        source = write_raster(folder / "source.tif", {"R": np.ones((9, 9), np.uint16)})
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        noise = np.random.default_rng(0).integers(0, 60_000, (1, 512, 512)).astype(np.uint16)
        grid = make_grid(512, 512)
        try:
            with Raster.open(source), create(folder / "s.tif", grid, ["R"], dtype="uint16") as writer:
                for window in grid.blocks():
                    writer.write(window, noise)
        except RasterWriteError as error:
            print(error)
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path)]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "s.tif: cannot be written (" in found.stdout
    assert "source.tif" not in found.stdout
    assert list(tree(tmp_path)) == ["source.tif"]
    assert leftovers(tmp_path) == []


def test_a_cloud_optimized_copy_keeps_numbers_names_and_mask(tmp_path):
    east, _ = centres(make_grid(300, 600))
    valid = east > 100
    source = write_raster(tmp_path / "s.tif", {"R": east.astype(np.uint16)}, valid=valid)
    to_cog(source, tmp_path / "cog.tif", overview_resampling="nearest")
    with Raster.open(source) as a, Raster.open(tmp_path / "cog.tif") as b:
        assert a.grid == b.grid
        assert b.names == ("R",)
        np.testing.assert_array_equal(a.read_reflectance(whole(a)), b.read_reflectance(whole(b)))
        assert b.dataset.overviews(1) == [2, 4] or b.dataset.overviews(1) == [2]
        assert b.dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
    assert sorted(tree(tmp_path)) == ["cog.tif", "s.tif"]


@pytest.mark.parametrize("colours", [None, {1: (1, 2, 3), 2: (4, 5, 6)}])
def test_classes_have_names_and_colours_only_where_they_are_given(tmp_path, colours):
    with create(tmp_path / "s.tif", make_grid(9, 9), ["class"], dtype="uint8", nodata=0) as writer:
        writer.describe_classes({1: "field", 2: "water"}, colours)
        writer.write(Window(0, 0, 9, 9), np.ones((1, 9, 9), np.uint8))
    with rasterio.open(tmp_path / "s.tif") as dataset:
        assert dataset.tags(1).items() >= {"CLASS_1": "field", "CLASS_2": "water"}.items()
        assert (dataset.colorinterp[0].name == "palette") == (colours is not None)
        if colours:
            assert dataset.colormap(1)[2] == (4, 5, 6, 255)
