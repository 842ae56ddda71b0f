"""The model folder as MLflow's pyfunc: it loads the artifact, answers, and turns refusals into HTTP 400.

Imported only where MLflow loads a model: importing mlflow takes seconds.
"""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, INVALID_PARAMETER_VALUE
from mlflow.pyfunc import PythonModel

from landfold.core.errors import LandfoldError
from landfold.core.settings import validate
from landfold.deploy.bundle import Bundle
from landfold.deploy.serving import LIMITS, ServingLimits
from landfold.deploy.serving.scoring import answer
from landfold.network.model import pick_device


class Refusal(MlflowException):
    """One sentence for the client: MLflow's server would put the whole input before it."""

    def serialize_as_json(self) -> str:
        """The body of the answer."""
        return json.dumps({"error_code": self.error_code, "message": self.args[0]})


class LandfoldModel(PythonModel):
    """Reflectance in, class probabilities out."""

    def load_context(self, context: Any) -> None:
        """Load the model folder: data only."""
        values = LIMITS.model_dump() | dict(context.model_config or {})
        self.limits = validate(values, ServingLimits, where="model_config")
        self.bundle = Bundle.load(Path(context.artifacts["model"]), pick_device(self.limits.device))

    # np.ndarray though it is a dictionary of one: MLflow takes the types of this signature for the model's, and warns
    # of all others.
    def predict(self, context: Any, model_input: np.ndarray, params: dict[str, Any] | None = None) -> np.ndarray:
        """See `landfold.deploy.serving.scoring.answer`; the input is named ``reflectance``, or is the array alone."""
        reflectance = model_input.get("reflectance") if isinstance(model_input, dict) else model_input
        try:
            return answer(self.bundle, reflectance, params or {}, self.limits)
        except LandfoldError as error:
            raise Refusal(str(error), INVALID_PARAMETER_VALUE) from None
        except Exception:  # MLflow's server would call it the client's fault, and send the stack
            logging.getLogger(__name__).exception("a request that should have been answered or refused")
            raise Refusal("the server failed at this request; its log has the reason", INTERNAL_ERROR) from None
