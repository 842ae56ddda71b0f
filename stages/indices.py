"""Compute spectral indices on reflectance.

Reads: data/scenes; section ``indices`` of params.yaml.
Writes: data/indices/SCENE.tif, float32, NaN where undefined.
Refuses: an unknown index, or one whose bands are absent.
"""

from pathlib import Path

from landfold.core.digests import code_digest
from landfold.core.files import writing_folder
from landfold.scenes.cache import SceneTask, run_cached
from landfold.scenes.indices import write_indices
from stages import Params, bar, run

CODE = code_digest("core", "geo", "scenes", scripts=[Path(__file__)])


def main(params: Params) -> str:
    """Compute scene by scene, keeping what is unchanged; with no index asked for, the folder stays empty."""
    indices = params.indices
    scenes = sorted(Path("data/scenes").glob("*.tif"))
    with writing_folder(Path("data/indices")) as folder:

        def scene(file: Path) -> SceneTask:
            target = folder / file.name
            return SceneTask(
                file.stem, [file], [target], lambda progress: write_indices(file, indices, target, progress=progress)
            )

        work = map(scene, scenes if indices.names else [])
        outcome = run_cached("indices", work, indices.model_dump(mode="json"), code=CODE, bar=bar)
    return f"{', '.join(indices.names) or 'none'} for {len(scenes)} scenes, {outcome.tally}"


if __name__ == "__main__":
    run(main)
