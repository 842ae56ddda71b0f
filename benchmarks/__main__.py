"""Speed as ratios measured within one run: ``make bench``, or ``python -m benchmarks NAME ...``.

Each benchmark times ours and a reference in turn, several times, and prints the median of the ratios of the
pairs, so that a machine whose speed drifts still gives a fair figure. Nothing here is a test.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median

import numpy as np
import pandas
import rasterio
import torch
from affine import Affine
from rasterio.crs import CRS
from rasterio.windows import Window

from benchmarks import memory, onnx
from landfold.geo.grid import Grid
from landfold.geo.raster import Raster
from landfold.geo.writer import create
from landfold.maps.inference import predict_windows
from landfold.network.card import ModelCard, window_px
from landfold.network.checkpoints import Checkpoint, training_fingerprint
from landfold.network.dataset import ArrayExamples, load_windows
from landfold.network.distributed import launch
from landfold.network.model import Classifier, build
from landfold.network.settings import ModelSettings, TrainSettings
from landfold.network.training import FoldData, fit
from landfold.params import read_params
from landfold.scenes.indices import write_indices
from landfold.scenes.ingest import ingest_scene
from landfold.scenes.normalize import scene_statistics, write_normalized
from landfold.scenes.sensors import find_scenes
from landfold.scenes.settings import IndexSettings, IngestSettings, MaskSettings, NormalizeSettings

BANDS = {"B02": "B", "B03": "G", "B04": "R", "B08": "N", "B11": "S1", "B12": "S2"}
NORMALIZE = NormalizeSettings(low_percentile=2, high_percentile=98, min_valid_px=1000)
SIDE_PX = 4096
MORE_PX = 768
PATCHES = 2048


def ratio(ours: Callable[[], object], reference: Callable[[], object], pairs: int = 3) -> tuple[float, float, float]:
    """Median seconds of ours and of the reference, and the median ratio of the pairs."""
    times = []
    for _ in range(pairs):
        start = time.perf_counter()
        ours()
        middle = time.perf_counter()
        reference()
        times.append((middle - start, time.perf_counter() - middle))
    return median(a for a, _ in times), median(b for _, b in times), median(a / b for a, b in times)


def delivered(folder: Path) -> Path:
    """A scene of six 10 m bands as a provider delivers it: smooth ground with noise, 4096 x 4096 px."""
    random = np.random.default_rng(0)
    ramp = np.linspace(0, 6, SIDE_PX)
    for number, band in enumerate(BANDS):
        ground = 2000 + 800 * np.sin(ramp[:, None] + number) * np.cos(ramp[None, :])
        values = (ground + random.normal(0, 120, ground.shape)).clip(1, 20000).astype("uint16")
        profile = {"driver": "GTiff", "dtype": "uint16", "count": 1, "height": SIDE_PX, "width": SIDE_PX, "tiled": True}
        place = {"crs": "EPSG:32633", "transform": Affine(10, 0, 399960, 0, -10, 5800020), "compress": "deflate"}
        with rasterio.open(folder / f"T33UUU_20200101T100000_{band}.tif", "w", **profile, **place) as dataset:
            dataset.write(values, 1)
    return folder


def ingested(folder: Path) -> Path:
    """The scene of `delivered` after ingest."""
    settings = IngestSettings(
        bands=list(BANDS.values()), band_order=None, crs_policy="error", resolution_m=10, resampling="bilinear",
        scale=1e-4, offset=0, nodata=0, masks=MaskSettings(scl=[], qa_pixel=[], fmask=[], file=[]), area=None,
        mask_file=None, min_valid=0.05, on_refusal="error",
    )  # fmt: skip
    (scene,) = find_scenes(folder)
    ingest_scene(scene, settings, CRS.from_epsg(32633), folder / "out/scene.tif")
    return folder / "out/scene.tif"


def decode(path: Path) -> None:
    """Read every pixel of a raster, window by window, and do nothing with it."""
    with Raster.open(path) as source:
        for window in source.grid.blocks():
            source.read_raw(window)
            source.read_mask(window)


def bench_statistics(folder: Path) -> None:
    """Scene statistics against decoding the same raster."""
    path = ingested(delivered(folder))

    def statistics() -> None:
        with Raster.open(path) as source:
            scene_statistics("scene", source, None, NORMALIZE)

    report("scene statistics / decoding the raster", "<= 1.25", *ratio(statistics, lambda: decode(path)))


def bench_prepare(folder: Path) -> None:
    """Ingest, indices and normalize against decoding the delivery and writing the same files."""
    delivered(folder)
    products: list[Path] = []

    def ours() -> None:
        scene = ingested(folder)
        indices = scene.with_name("indices.tif")
        write_indices(scene, IndexSettings(names=["NDVI", "NDWI", "NDBI"]), indices)
        normalized = scene.with_name("normalized.tif")
        with Raster.open(scene) as bands, Raster.open(indices) as extra:
            write_normalized(bands, extra, scene_statistics("s", bands, extra, NORMALIZE), normalized)
        products[:] = [scene, indices, normalized]

    def reference() -> None:
        for band in sorted(folder.glob("*.tif")):
            with rasterio.open(band) as dataset:
                for _, window in dataset.block_windows():
                    dataset.read(window=window)
        for product in products:
            copy_windows(product, product.with_name("copy-" + product.name))

    report("ingest + indices + normalize / decode and write", "<= 2", *ratio(ours, reference))


def copy_windows(source: Path, target: Path) -> None:
    """Decode a raster and write it as it is, in the same format."""
    with Raster.open(source) as opened:
        kind = opened.dataset.dtypes[0]
        with create(target, opened.grid, opened.names, dtype=kind) as writer:
            for window in opened.grid.blocks():
                writer.write(window, opened.read_raw(window))


def bench_one_more(folder: Path) -> None:
    """The scene stages for one more scene after 20, against the same stages for one scene alone."""
    memory.deliver(folder, MORE_PX)
    files = sorted((folder / "data/raw/scenes").iterdir())

    def add(repository: Path, name: str) -> None:
        for file in files:
            target = repository / f"data/raw/scenes/{name}/{name}_{file.stem.split('_')[-1]}.tif"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.hardlink_to(file)

    def repository(scenes: int) -> Path:
        path = Path(tempfile.mkdtemp(dir=folder))
        (path / ".dvc").mkdir()
        shutil.copytree(folder / "data/raw/labels", path / "data/raw/labels")
        shutil.copy(folder / "params.yaml", path)
        for number in range(scenes):
            add(path, f"s{number:02}")
        return path

    def prepare(path: Path) -> None:
        for stage in memory.STAGES:
            memory.measure(stage, path)

    grown, names = repository(20), count(20)
    prepare(grown)

    def ours() -> None:
        add(grown, f"s{next(names)}")
        prepare(grown)

    report("one more scene after 20 / one scene alone", "<= 1.5", *ratio(ours, lambda: prepare(repository(1))))


def normalized_scene(folder: Path, channels: int = 16, height: int = 768, width: int = 1536) -> Path:
    """A normalized scene of the default job's size."""
    path = folder / "scene.tif"
    grid = Grid(CRS.from_epsg(32633), Affine(10, 0, 330000, 0, -10, 5822040), height, width)
    values = np.random.default_rng(0).random((channels, height, width), dtype=np.float32)
    with create(path, grid, [f"c{i}" for i in range(channels)], dtype="float32") as writer:
        writer.write(grid.whole, values, np.ones((height, width), dtype=bool))
    return path


def places(size: int = 16) -> pandas.DataFrame:
    """Random patches of `normalized_scene`."""
    random = np.random.default_rng(1)
    row, column = random.integers(0, 768 - size, PATCHES), random.integers(0, 1536 - size, PATCHES)
    return pandas.DataFrame({"scene": "scene", "row": row, "column": column, "size_px": size})


def network(channels: int = 16) -> tuple[torch.nn.Module, ModelCard]:
    """A network of patches, untrained."""
    settings = ModelSettings(
        kind="classifier",
        **dict.fromkeys(("boxes_px", "bins", "hidden", "noise", "decoder", "depth", "window_px")),
        backbone="resnet18",
        weights="none",
        partial_weights=False,
        stem="averaged",
        kernel_px=3,
        stride_px=1,
        pooling=True,
        blocks=3,
        dropout=0,
    )
    names = [f"c{i}" for i in range(channels)]
    card = ModelCard(
        model=settings, channels=names, bands=names, indices=[], classes=list("abcdefgh"), size_px=16, core_px=16,
        resolution_m=10, k=5, fold=0, fold_digest="", patches_digest="", statistics_digest="", train={},
    )  # fmt: skip
    return build(settings, names, 8), card


def pixel_network(channels: int = 16) -> tuple[torch.nn.Module, ModelCard]:
    """The default network, untrained."""
    settings, names = read_params().model, [f"c{i}" for i in range(channels)]
    size_px, core_px = window_px(settings, read_params().patches)
    card = network(channels)[1].model_copy(update={"model": settings, "size_px": size_px, "core_px": core_px})
    return build(settings, names, len(card.classes)), card


def train_settings(epochs: int) -> TrainSettings:
    """The default settings, but for those that suit patches and not pixels."""
    own = {
        "epoch_size": None,
        "max_pixels": None,
        "batch_size": 64,
        "learning_rate": 0.001,
        "flips_and_rotations": True,
    }
    return read_params(memory.ROOT / "params.yaml").train.model_copy(update=own | {"epochs": epochs})


def train(windows: np.ndarray, epochs: int) -> None:
    """Train on windows in memory or in a file."""
    labels = np.arange(len(windows), dtype=np.int64) % 8
    settings = train_settings(epochs)
    model, _ = network()
    examples, held_out = ArrayExamples(windows, labels), ArrayExamples(windows, labels, np.arange(len(labels)) < 8)
    fit(model, FoldData(0, 8, examples, held_out), settings, launch(settings, "cpu", fold=0))


def bench_loader(folder: Path) -> None:
    """Ten epochs with the real loader against ten over tensors already in memory."""
    normalized_scene(folder)
    table = places()
    windows, _ = load_windows(table, folder)

    def ours(cache_gb: float) -> None:
        train(load_windows(table, folder, cache_gb=cache_gb, scratch=folder / "scratch")[0], 10)

    for kind, cache_gb in (("held in memory", 4.0), ("memory-mapped", 0.0)):
        figures = ratio(partial(ours, cache_gb), lambda: train(windows, 10), 1)
        report(f"epoch, patches {kind} / tensors in memory", "<= 1.05", *figures)


def bench_checkpoint(folder: Path) -> None:
    """Ten epochs with checkpoints against ten without."""
    windows = np.random.default_rng(0).random((PATCHES, 16, 16, 16), dtype=np.float32)
    labels = np.arange(PATCHES, dtype=np.int64) % 8
    settings = train_settings(10)

    def trained(home: Path | None) -> None:
        model, _ = network()
        with Checkpoint(home) as checkpoint:
            checkpoint.open(training_fingerprint({}, [windows], model.state_dict()) if home else "")
            examples = ArrayExamples(windows, labels)
            data = FoldData(0, 8, examples, examples)
            fit(model, data, settings, launch(settings, "cpu", fold=0), checkpoint=checkpoint)

    figures = ratio(lambda: trained(folder / "states"), lambda: trained(None), 1)
    report("training with checkpoints / without", "<= 1.05", *figures)


def bench_naive(folder: Path) -> None:
    """The loader over ten epochs against the naive recipe for one sample in each epoch, for as many samples."""
    path = normalized_scene(folder)
    table = places().head(128)

    def naive() -> None:
        for place in table.itertuples():
            with rasterio.open(path) as dataset:
                tile = dataset.read(window=Window(min(place.column, 1280), min(place.row, 512), 256, 256))
            low, high = np.nanpercentile(tile, (2, 98), axis=(1, 2))
            ((tile[:, :16, :16] - low[:, None, None]) / (high - low)[:, None, None]).clip(0, 1)

    def ours() -> None:
        load_windows(table, folder)

    naive_s, ours_s, times = ratio(naive, ours)
    report("naive open-read-percentile-crop / loader, an epoch of 1", ">= 10", naive_s, ours_s, times)


def bench_map(folder: Path) -> None:
    """The map of a scene against the network's forward pass over the same windows, from memory."""
    path = normalized_scene(folder, height=384, width=768)
    model, card = network()
    classifier = Classifier(model, card)
    windows = np.random.default_rng(0).random((48 * 96, 16, 16, 16), dtype=np.float32)

    def ours() -> None:
        with Raster.open(path) as opened:
            for _ in predict_windows(opened, [classifier], 8):
                pass

    report(
        "map of a scene / forward pass from memory", "<= 1.15", *ratio(ours, lambda: classifier.probabilities(windows))
    )


def bench_onnx(folder: Path) -> None:
    """The ensembles of five folds, of patches and of pixels: onnxruntime against torch."""
    for kind, make, windows in (("patches", network, 256), ("pixels", pixel_network, 16)):
        ours, reference, sizes = onnx.compared(folder / kind, make, windows)
        report(f"onnxruntime / torch, {windows} windows of {kind} ({sizes})", "-", *ratio(ours, reference, 5))


def bench_repro(_: Path) -> None:
    """`dvc repro` with nothing to do against `dvc status`, in this repository as it stands."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "check": True}
    figures = ratio(
        lambda: subprocess.run(["dvc", "repro"], **quiet), lambda: subprocess.run(["dvc", "status"], **quiet)
    )
    report("dvc repro with nothing to do / dvc status", "<= 2", *figures)


def report(what: str, goal: str, ours: float, reference: float, quotient: float) -> None:
    """One line of the table."""
    print(f"{what:58} {ours:8.2f} s {reference:8.2f} s {quotient:7.2f}   goal {goal}", flush=True)


BENCHMARKS = {
    name.removeprefix("bench_"): function for name, function in globals().items() if name.startswith("bench_")
}


def main(names: list[str]) -> None:
    """Run the named benchmarks, or all."""
    print(f"{'ours / reference':58} {'ours':>10} {'reference':>10} {'ratio':>7}", flush=True)
    for name in names or BENCHMARKS:
        if name not in BENCHMARKS:
            sys.exit(f"no benchmark {name}; there are {', '.join(BENCHMARKS)}")
        with tempfile.TemporaryDirectory() as folder:
            BENCHMARKS[name](Path(folder))


if __name__ == "__main__":
    main(sys.argv[1:])
