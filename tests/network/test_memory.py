import pytest
import torch

from landfold.network.errors import TrainingError
from landfold.network.memory import explain_oom
from tests.network.tiny import train_settings

GPU = torch.device("cuda")


@pytest.mark.parametrize(
    ("precision", "advice"),
    [("32-true", r"\(16\), or set train.precision to bf16-mixed$"), ("bf16-mixed", r"\(16\)$")],
)
def test_a_full_gpu_names_batch_size_and_precision(precision, advice):
    with (
        pytest.raises(TrainingError, match=f"fold 3: the GPU ran out of memory; lower train.batch_size {advice}"),
        explain_oom(train_settings(precision=precision), GPU, "fold 3"),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match="shape"), explain_oom(train_settings(), GPU, "fold 3"):
        raise RuntimeError("shape")
