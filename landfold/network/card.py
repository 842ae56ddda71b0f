"""The card of a trained network, which is read without torch."""

from pathlib import Path
from typing import Any

from landfold.core.files import write_json
from landfold.core.settings import Settings
from landfold.network.settings import ModelSettings
from landfold.patches.settings import PatchSettings

PIXELS_PX = 64
"""Side of the squares of pixels that a network of surroundings predicts at once where it is served."""


class ModelCard(Settings):
    """What is needed to rebuild and use a trained classifier; stored as model.json beside its weights."""

    model: ModelSettings
    """settings of the network"""
    channels: list[str]
    """names of the input channels, in order: bands, then indices"""
    bands: list[str]
    """standard names of the bands"""
    indices: list[str]
    """names of the spectral indices"""
    classes: list[str]
    """class names, in the order of the outputs"""
    size_px: int
    """side of the input window in pixels"""
    core_px: int
    """side of the core in pixels: what the class of a patch describes, or whose pixels are predicted"""
    resolution_m: float
    """pixel size in metres"""
    k: int
    """number of folds"""
    fold: int
    """the fold that was held out"""
    fold_digest: str
    """digest of the fold's lists of patches, from the folds' index.json"""
    patches_digest: str
    """digest of the table of patches"""
    statistics_digest: str
    """digest of the scene statistics that normalized its input"""
    train: dict[str, Any]
    """section ``train`` of params.yaml"""

    @property
    def margin_px(self) -> int:
        """Pixels between the edge of the window and its core."""
        return (self.size_px - self.core_px) // 2

    def save(self, folder: Path) -> None:
        """Write model.json into an existing folder."""
        write_json(folder / "model.json", self.model_dump())


def window_px(model: ModelSettings, patches: PatchSettings) -> tuple[int, int]:
    """Side of the network's windows, and of their cores, in pixels."""
    if model.kind == "classifier":
        return patches.size_px, patches.core_px
    if model.kind == "segmentation":
        return model.window_px, model.window_px // 2
    return PIXELS_PX + 2 * (max(model.boxes_px, default=1) // 2), PIXELS_PX
