"""Take the statistics of every scene and scale its channels to [0, 1].

Reads: data/scenes, data/indices; section ``normalize`` of params.yaml.
Writes: data/statistics/SCENE.json and data/normalized/SCENE.tif (nodata 0, masked).
Refuses: a scene with too few valid pixels in a channel.
"""

from pathlib import Path

from landfold.core.digests import code_digest
from landfold.core.files import writing_folder
from landfold.scenes.cache import SceneTask, run_cached
from landfold.scenes.normalize import normalize_scene
from stages import Params, bar, run

CODE = code_digest("core", "geo", "scenes", scripts=[Path(__file__)])


def main(params: Params) -> str:
    """Normalize scene by scene; what is unchanged is kept."""
    normalize = params.normalize
    scenes = sorted(Path("data/scenes").glob("*.tif"))
    with writing_folder(Path("data/statistics")) as statistics, writing_folder(Path("data/normalized")) as normalized:

        def scene(file: Path) -> SceneTask:
            indices = Path("data/indices") / file.name
            reads = [file, indices] if indices.exists() else [file]
            makes = [statistics / f"{file.stem}.json", normalized / file.name]
            return SceneTask(
                file.stem, reads, makes, lambda progress: normalize_scene(reads, normalize, *makes, progress=progress)
            )

        outcome = run_cached("normalize", map(scene, scenes), normalize.model_dump(mode="json"), code=CODE, bar=bar)
    return f"{len(scenes)} scenes to p{normalize.low_percentile:g}-p{normalize.high_percentile:g}, {outcome.tally}"


if __name__ == "__main__":
    run(main)
