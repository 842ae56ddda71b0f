"""A model folder wrapped as an MLflow model: signature, input example, requirements, and the folder inside."""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from landfold.core.digests import file_sha256
from landfold.core.errors import LandfoldError
from landfold.core.files import writing_folder
from landfold.deploy.bundlecard import BundleCard, read_card
from landfold.deploy.serving.scoring import LIMITS, ServingLimits
from landfold.tracking.library import load_mlflow

SCRIPT = Path(__file__).with_name("script.py")

REQUIREMENTS = (
    "affine", "geopandas", "mlflow", "numpy", "pandas", "pydantic", "pyogrio", "pyproj",
    "pystac", "pyyaml", "rasterio", "safetensors", "scikit-learn", "scipy", "shapely", "spyndex", "torch",
    "torchvision",
)  # fmt: skip
"""What this package imports, through all its modules; landfold itself is installed from its own repository."""


class PackageError(LandfoldError):
    """A folder that no MLflow model can be written to."""


def requirements() -> list[str]:
    """The packages that serving needs, pinned to what is installed here."""
    return [f"{name}=={version(name).partition('+')[0]}" for name in REQUIREMENTS]


def signature(card: BundleCard) -> Any:
    """MLflow's signature: tensors with their shapes, -1 where any size will do, and the parameters."""
    from mlflow.models import ModelSignature
    from mlflow.types import ParamSchema, ParamSpec, Schema, TensorSpec

    float32 = np.dtype(np.float32)
    return ModelSignature(
        inputs=Schema([TensorSpec(float32, (-1, len(card.bands), -1, -1), name="reflectance")]),
        outputs=Schema([TensorSpec(float32, (-1, len(card.classes)))]),
        params=ParamSchema(
            [
                ParamSpec("mode", "string", "windows"),
                ParamSpec("low", "double", [], (-1,)),
                ParamSpec("high", "double", [], (-1,)),
            ]
        ),
    )


def example(card: BundleCard) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Two windows with the statistics of their scene: a request that is answered."""
    shape = (2, len(card.bands), card.size_px, card.size_px)
    ramp = np.linspace(0.02, 0.4, int(np.prod(shape)), dtype=np.float32).reshape(shape)
    given = {"mode": "windows", "low": [0.0] * len(card.channels), "high": [0.5] * len(card.channels)}
    return {"reflectance": ramp.round(4)}, given


def save(model: Path, target: Path, *, limits: ServingLimits = LIMITS, mlflow_model: Any = None) -> None:
    """Save a model folder as an MLflow model into ``target``, which must not exist."""
    mlflow = load_mlflow()
    card = read_card(model)
    mlflow.pyfunc.save_model(
        path=str(target),
        python_model=str(SCRIPT),
        artifacts={"model": str(model)},
        signature=signature(card),
        input_example=example(card),
        pip_requirements=requirements(),
        model_config=limits.model_dump(),
        metadata={
            "bundle_digest": file_sha256(model / "model.json"),
            "classes": card.classes,
            "bands": card.bands,
            "channels": card.channels,
        },
        mlflow_model=mlflow_model,
    )


def write_mlflow_model(model: Path, target: Path, *, limits: ServingLimits = LIMITS) -> None:
    """Write the MLflow model folder ``target``, whole or not at all.

    Raises:
        PackageError: there is something else at ``target``.
        BundleError: ``model`` is no model folder.
    """
    if target.exists() and not (target / "MLmodel").is_file():
        raise PackageError(f"{target}: is there and is no MLflow model; name a new folder")
    read_card(model)  # before anything of an earlier model is touched
    with writing_folder(target) as folder:
        folder.rmdir()
        save(model, folder, limits=limits)
