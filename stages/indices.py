"""Compute spectral indices on reflectance.

Reads: data/scenes; section ``indices`` of params.yaml.
Writes: data/indices/SCENE.tif, float32, NaN where undefined.
Refuses: an unknown index, or one whose bands are absent.
"""

from pathlib import Path

from landfold import settings
from landfold.files import writing_folder
from landfold.indices import IndexSettings, write_indices
from stages import PARAMS, bar, run


def main() -> str:
    """Compute scene by scene; with no index asked for, the folder stays empty."""
    indices = settings.load(PARAMS, "indices", IndexSettings)
    scenes = sorted(Path("data/scenes").glob("*.tif"))
    with writing_folder(Path("data/indices")) as folder:
        for scene in scenes if indices.names else []:
            with bar(f"indices {scene.stem}") as progress:
                write_indices(scene, indices, folder / scene.name, progress=progress)
    return f"{', '.join(indices.names) or 'none'} for {len(scenes)} scenes"


if __name__ == "__main__":
    run(main)
