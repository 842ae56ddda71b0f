import sys

import pandas

from landfold.console import training
from landfold.network.callbacks import Step
from landfold.network.fold import HeldOutPredictions


def test_sentences_of_a_training(capsys):
    assert training.fold_name(3, is_random=False) == "fold 3"
    name = training.fold_name(3, is_random=True)
    assert training.switched_off(name) == "fold 3, random split: off (audit.network: false)"
    assert training.usage(4) == "expected the number of a fold, 0 to 4: python -m stages.train FOLD [random]"
    patches = pandas.DataFrame({"label": list("abba"), "predicted": list("abaa")})
    assert training.closing("fold 3", 40, 2, HeldOutPredictions(patches, patches[:0])) == (
        "fold 3: 40 patches, 2 epochs; 0.750 of 4 held-out patches right"
    )
    pixels = {"label": list("aabb"), "predicted": list("abbb"), "pixels": [5, 4, 1, 90]}
    pixels = pandas.DataFrame(pixels).assign(split=["zones"] * 3 + ["random pixels"])
    assert training.closing("fold 3", 7000, 2, HeldOutPredictions(patches, patches[:0], pixels)) == (
        "fold 3: 7000 pixels, 2 epochs; 0.600 of 10 held-out pixels right, 0.750 of 4 held-out patches right"
    )
    assert training.step_note(Step(0.5, 1, 2, 3, 4, 0.123, 56.7)) == "epoch 1/2 batch 3/4 loss 0.123 57 examples/s"
    training.notice("fold 3: careful")
    assert capsys.readouterr() == ("", "train: fold 3: careful\n")


def test_steps_move_the_bar_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with training.step_bar("fold 3") as on_step:
        on_step(Step(0.5, 1, 2, 3, 4, 0.123, 56.7))
    assert "train fold 3" in capsys.readouterr().err
