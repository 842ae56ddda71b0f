"""Finding scenes as they were delivered, and what each of their files is."""

from landfold.sensors.scenes import BandFile, SceneFiles, find_scenes

__all__ = ["BandFile", "SceneFiles", "find_scenes"]
