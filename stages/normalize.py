"""Take the statistics of every scene and scale its channels to [0, 1].

Reads: data/scenes, data/indices; section ``normalize`` of params.yaml.
Writes: data/statistics/SCENE.json and data/normalized/SCENE.tif (nodata 0, masked).
Refuses: a scene with too few valid pixels in a channel.
"""

from contextlib import ExitStack
from pathlib import Path

from landfold import settings
from landfold.files import writing_folder
from landfold.raster import Raster
from landfold.statistics import NormalizeSettings, scene_statistics, write_normalized
from stages import PARAMS, bar, run


def main() -> str:
    """Normalize scene by scene."""
    normalize = settings.load(PARAMS, "normalize", NormalizeSettings)
    scenes = sorted(Path("data/scenes").glob("*.tif"))
    with writing_folder(Path("data/statistics")) as statistics, writing_folder(Path("data/normalized")) as normalized:
        for scene in scenes:
            with ExitStack() as stack:
                reflectance = stack.enter_context(Raster.open(scene))
                indices_file = Path("data/indices") / scene.name
                indices = stack.enter_context(Raster.open(indices_file)) if indices_file.exists() else None
                progress = stack.enter_context(bar(f"normalize {scene.stem}"))
                found = scene_statistics(scene.stem, reflectance, indices, normalize)
                found.save(statistics / f"{scene.stem}.json")
                write_normalized(reflectance, indices, found, normalized / scene.name, progress=progress)
    return f"{len(scenes)} scenes to p{normalize.low_percentile:g}-p{normalize.high_percentile:g}"


if __name__ == "__main__":
    run(main)
