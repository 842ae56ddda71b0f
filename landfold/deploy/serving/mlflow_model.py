"""A model folder wrapped as an MLflow model: signature, input example, requirements, and the folder inside."""

import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from landfold.core.errors import LandfoldError
from landfold.core.files import writing_folder
from landfold.deploy.bundlecard import BundleCard, bundle_digest, read_card
from landfold.deploy.serving import LIMITS, ServingLimits
from landfold.tracking.library import load_mlflow

SCRIPT = Path(__file__).with_name("script.py")

REQUIREMENTS = (
    "affine", "geopandas", "joblib", "mlflow", "numpy", "pandas", "pyarrow", "pydantic", "pyogrio", "pyproj",
    "rasterio", "ruamel.yaml", "safetensors", "scikit-learn", "scipy", "segmentation-models-pytorch", "shapely",
    "spyndex", "timm", "torch", "torchvision",
)  # fmt: skip
"""What the script imports, through all modules; landfold itself is installed from its own repository."""

PART_PX = 8
"""Side of the parts of a scene in the example of a request: the windows of a model of pixels are large."""


class MlflowModelError(LandfoldError):
    """A folder that an MLflow model cannot be written to."""


def signature(card: BundleCard) -> Any:
    """MLflow's signature: tensors with their shapes, -1 for any size, and the parameters.

    The output of a model of patches is that of windows: MLflow knows one shape, and does not check it.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ParamSchema, ParamSpec, Schema, TensorSpec

    float32, map_sides = np.dtype(np.float32), (-1, -1) if card.unit == "pixel" else ()
    return ModelSignature(
        inputs=Schema([TensorSpec(float32, (-1, len(card.bands), -1, -1), name="reflectance")]),
        outputs=Schema([TensorSpec(float32, (-1, *map_sides, len(card.classes)))]),
        params=ParamSchema(
            [
                ParamSpec("mode", "string", "windows"),
                ParamSpec("sets", "boolean", default=False),
                *(ParamSpec(end, "double", [], (-1,)) for end in ("low", "high")),
            ]
        ),
    )


def example_request(card: BundleCard) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """A request that is answered, with statistics: two windows, for a model of pixels two small parts of a scene."""
    mode, side = ("scene", PART_PX) if card.unit == "pixel" else ("windows", card.size_px)
    shape = (2, len(card.bands), side, side)
    ramp = np.linspace(0.02, 0.4, int(np.prod(shape)), dtype=np.float32).reshape(shape)
    given = {"mode": mode, "low": [0.0] * len(card.channels), "high": [0.5] * len(card.channels)}
    return {"reflectance": ramp.round(4)}, given


def save_mlflow_model(model: Path, target: Path, *, limits: ServingLimits = LIMITS, mlflow_model: Any = None) -> None:
    """Save a model folder as an MLflow model into ``target``, which must not exist."""
    mlflow = load_mlflow()
    card = read_card(model)
    mlflow.pyfunc.save_model(
        path=str(target),
        python_model=str(SCRIPT),
        artifacts={"model": str(model)},
        signature=signature(card),
        input_example=example_request(card),
        pip_requirements=[f"{name}=={version(name).partition('+')[0]}" for name in REQUIREMENTS],
        model_config=limits.model_dump(),
        metadata={"bundle_digest": bundle_digest(model)}
        | {name: getattr(card, name) for name in ("classes", "bands", "channels")},
        mlflow_model=mlflow_model,
    )
    for compiled in target.rglob("__pycache__"):  # MLflow has run the script to check it
        shutil.rmtree(compiled)


def write_mlflow_model(model: Path, target: Path, *, limits: ServingLimits = LIMITS) -> None:
    """Write the MLflow model folder ``target``, whole or not at all.

    Raises:
        MlflowModelError: there is something else at ``target``.
        BundleError: ``model`` is no model folder.
    """
    if target.exists() and not (target / "MLmodel").is_file():
        raise MlflowModelError(f"{target}: exists and is no MLflow model; name a new folder")
    read_card(model)  # before anything of an earlier model is touched
    with writing_folder(target) as folder:
        folder.rmdir()
        save_mlflow_model(model, folder, limits=limits)
