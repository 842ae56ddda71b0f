import numpy as np
import pytest
import rasterio

import landfold
from landfold.deploy.bundle import BundleError
from landfold.deploy.compatibility import PredictError
from tests.factories import small_scene
from tests.served import CLASSES, make_bundle


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("models") / "landfold")


def test_a_model_folder_is_a_classifier(folder, tmp_path):
    model = landfold.load_classifier(str(folder), device="cpu")
    assert model.classes == CLASSES
    windows = np.random.default_rng(0).random((2, 5, 8, 8), dtype=np.float32)
    np.testing.assert_allclose(model.probabilities(windows).sum(axis=1), 1, rtol=1e-6)
    with pytest.raises(BundleError, match=r"model\.json"):
        landfold.load_classifier(tmp_path)


@pytest.mark.parametrize("kind", ["surroundings", "segmentation"])
def test_a_model_of_pixels_maps_pixels(tmp_path, kind):
    model = landfold.load_classifier(make_bundle(tmp_path / "landfold", kind=kind), device="cpu")
    assert model.card.unit == "pixel"
    (outcome,) = landfold.predict(small_scene(tmp_path / "in"), model, tmp_path / "maps")
    with rasterio.open(tmp_path / f"maps/{outcome.scene}_class.tif") as dataset:
        assert dataset.shape == (90, 120)
    with pytest.raises(PredictError, match=r"^--stride 8 \(stride_px\): the model maps a scene's own pixels"):
        landfold.predict(tmp_path / "in", model, tmp_path / "maps", stride_px=8)


def test_scenes_are_mapped_once_with_what_is_asked_for(folder, tmp_path):
    scene = small_scene(tmp_path)
    (outcome,) = landfold.predict(scene, folder, tmp_path / "maps", stride_px=8, layers=["entropy"])
    assert (outcome.scene, outcome.outcome) == (scene.name, "mapped")
    assert (tmp_path / f"maps/{scene.name}_class.tif").is_file()
    model = landfold.load_classifier(folder)
    (again,) = landfold.predict([str(scene)], model, tmp_path / "maps", stride_px=8, layers=["entropy"])
    assert again.outcome == "unchanged"
    (other,) = landfold.predict([scene], model, tmp_path / "maps", stride_px=8, layers=["entropy"], force=True)
    assert other.outcome == "mapped"


def test_what_has_no_map_is_told_after_all_others_were_made(folder, tmp_path):
    scene = small_scene(tmp_path)
    with pytest.raises(PredictError, match=r"^1 of 2 scenes have no map:\n.*nowhere: not found"):
        landfold.predict([tmp_path / "nowhere", scene], folder, tmp_path / "maps")
    assert (tmp_path / f"maps/{scene.name}_class.tif").is_file()
