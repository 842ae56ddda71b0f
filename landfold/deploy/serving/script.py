"""What MLflow runs when it loads the model ("models from code"): all code is the installed package."""

from mlflow.models import set_model

from landfold.deploy.serving.pyfunc import LandfoldModel

set_model(LandfoldModel())
