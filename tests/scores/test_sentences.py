import pytest

from landfold.scores.sentences import accuracy_sentence, lead_sentence, optimism_sentence, with_interval


def scored(pooled, low, high):
    return {"pooled": pooled, "low": low, "high": high}


def result(gap=(0.08, 0.04, 0.12)):
    accuracy = {"zoned": scored(0.713, 0.656, 0.761), "random": scored(0.789, 0.74, 0.83), "gap": scored(*gap)}
    return {part: {"accuracy": score} for part, score in accuracy.items()}


def test_a_score_has_its_interval_where_there_is_one():
    assert with_interval(scored(0.7134, 0.6561, 0.76)) == "0.713 (0.656 to 0.760)"
    assert with_interval(scored(-0.02, -0.1, 0.06), 2, signed=True) == "-0.02 (-0.10 to +0.06)"
    assert with_interval({"pooled": 0.5}) == with_interval(scored(0.5, None, None)) == "0.500"


def test_accuracy_is_told_as_far_as_it_is_known():
    summary = {"zoned": {"accuracy": scored(0.713, 0.656, 0.761), "macro_f1": {"pooled": 0.51}}, "patches": 1134}
    assert accuracy_sentence(summary) == ("Spatial CV: accuracy 0.713 (0.656 to 0.761), macro F1 0.510 on 1134 patches")
    assert accuracy_sentence({"zoned": {"accuracy": {"pooled": 0.5}}}) == "Spatial CV: accuracy 0.500"
    assert accuracy_sentence({}) == ""


@pytest.mark.parametrize(
    ("gap", "verdict"),
    [
        ((0.076, 0.041, 0.115), "an optimistic bias of 0.076 (0.041 to 0.115)"),
        ((0.05, -0.01, 0.1), "a difference that may be chance, +0.050 (-0.010 to +0.100)"),
        ((-0.02, -0.1, 0.1), "no optimistic bias, -0.020 (-0.100 to +0.100)"),
    ],
)
def test_a_bias_is_claimed_where_its_interval_is_above_0(gap, verdict):
    text = "Random CV gives band statistics an accuracy of 0.789, spatial CV 0.713: "
    assert optimism_sentence(result(gap), "band statistics") == text + verdict


def test_there_is_no_sentence_of_what_was_not_measured():
    assert optimism_sentence({"zoned": {}}) == lead_sentence({"zoned": {}}) == ""


@pytest.mark.parametrize(
    ("difference", "text"),
    [
        ((0.06, 0.02, 0.1), "is better than a forest: +0.06 (+0.02 to +0.10) in accuracy"),
        ((-0.05, -0.08, -0.02), "is worse than a forest: -0.05 (-0.08 to -0.02) in accuracy"),
        ((0.01, -0.02, 0.04), "is not clearly better than a forest: +0.01 (-0.02 to +0.04) in accuracy"),
    ],
)
def test_a_lead_is_claimed_where_its_interval_leaves_out_0(difference, text):
    summary = {"over_baseline": {"accuracy": scored(*difference)}}
    assert lead_sentence(summary, "a forest", digits=2) == f"The network {text}"


def of_pixels(gap=(0.2, 0.15, 0.26)):
    scores = {"count": 365040, "accuracy": scored(0.666, 0.607, 0.708), "macro_f1": scored(0.563, 0.515, 0.592)}
    return scores | {"random": {"accuracy": scored(0.866, 0.84, 0.89)}, "gap": {"accuracy": scored(*gap)}}


def test_pixels_are_told_first():
    summary = {"zoned": {"accuracy": scored(0.713, 0.656, 0.761)}, "patches": 1134, "pixels": of_pixels()}
    assert accuracy_sentence(summary) == (
        "Spatial CV: accuracy 0.666 (0.607 to 0.708), macro F1 0.563 (0.515 to 0.592) on 365040 labelled pixels; "
        "accuracy 0.713 (0.656 to 0.761) on 1134 patches"
    )
    assert optimism_sentence(result() | {"pixels": of_pixels()}) == (
        "A random split of pixels gives the network an accuracy of 0.866, spatial CV 0.666: an optimistic bias of "
        "0.200 (0.150 to 0.260)"
    )
    over = {"over_baseline": {"accuracy": scored(0.06, 0.02, 0.1)}, "pixels": of_pixels()}
    assert lead_sentence(over).endswith("+0.060 (+0.020 to +0.100) in accuracy of patches")


def test_without_random_pixels_the_bias_is_that_of_patches():
    pixels = {name: score for name, score in of_pixels().items() if name not in ("random", "gap")}
    assert optimism_sentence(result() | {"pixels": pixels}).startswith("Random CV gives the network")
