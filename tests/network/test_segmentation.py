import re

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import resnet18

from landfold.core.settings import SettingsError, validate
from landfold.network.errors import ModelError
from landfold.network.model import Classifier, build, pixel_probabilities
from landfold.network.segmentation import WIDTHS
from landfold.network.settings import DECODERS, ENCODERS, ModelSettings
from tests.network.pixel_problem import CHANNELS, CLASSES, MODELS, make_pixel_card, model_settings, settings_of
from tests.network.test_model import random_windows, randomize_statistics

torch.set_num_threads(1)

SMALL_ENCODERS = ["resnet18", "mobilenet_v2", "efficientnet-b0", "tu-regnety_002", "tu-convnext_atto"]


def built(channels=CHANNELS, **changes) -> nn.Module:
    torch.manual_seed(0)
    return build(model_settings(**changes), list(channels), len(CLASSES))


def plain(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.contiguous() for name, tensor in state.items()}


def encoder_of(name: str = "resnet18", **options) -> nn.Module:
    """An encoder of R, G and B as the library makes it, with weights of its own."""
    torch.manual_seed(1)
    encoder = smp.encoders.get_encoder(name, weights=None, **options)
    randomize_statistics(encoder)
    return encoder.eval()


def scored(network: nn.Module, windows: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return network.eval()(windows.contiguous(memory_format=torch.channels_last))


@pytest.mark.parametrize("count", [3, 16])
@pytest.mark.parametrize("decoder", sorted(DECODERS))
def test_any_channels_go_in_and_scores_of_every_pixel_come_out(decoder, count):
    network = built([f"C{i}" for i in range(count)], decoder=decoder, depth=3, window_px=32)
    windows = torch.from_numpy(random_windows(2, count, 32)).requires_grad_()
    scores = network.train()(windows)
    assert scores.shape == (2, 3, 32, 32)
    scores.square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters()), "no layer is left unused"
    assert (windows.grad.abs().amax(dim=(0, 2, 3)) > 0).all(), "every channel is looked at"


@pytest.mark.parametrize("depth", [3, 5])
@pytest.mark.parametrize("backbone", SMALL_ENCODERS)
def test_layers_beyond_the_depth_are_taken_out(backbone, depth):
    changes = {"backbone": backbone, "depth": depth, "window_px": 64}
    network = built(**changes)
    network.train()(torch.from_numpy(random_windows(2, 3, 64))).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    options = {"encoder_weights": None, "classes": 3, "decoder_channels": WIDTHS[-depth:]}
    whole = smp.Unet(backbone, encoder_depth=depth, **options)
    whole.segmentation_head.insert(0, nn.Identity())
    whole.load_state_dict({name: tensor.clone() for name, tensor in whole.state_dict().items()} | network.state_dict())
    windows = torch.from_numpy(random_windows(1, 3, 64))
    assert torch.allclose(scored(network, windows), scored(whole, windows), atol=1e-5)
    if depth == 3 and not backbone.startswith("tu-"):  # timm takes them out itself
        assert len(network.state_dict()) < len(whole.state_dict())


def test_names_of_encoders_are_those_of_the_library():
    given_up = {name for name in smp.encoders.get_encoder_names() if name.startswith(("timm-", "mobileone"))}
    assert set(smp.encoders.get_encoder_names()) - given_up == ENCODERS


@pytest.mark.parametrize(("decoder", "least"), DECODERS.items())
def test_decoders_take_their_least_depth_and_none_below(decoder, least):
    assert scored(built(decoder=decoder, depth=least), torch.zeros(1, 3, 16, 16)).shape == (1, 3, 16, 16)
    if least > 1:
        message = f"decoder: {decoder} needs a depth of at least {least}: set model.depth to it"
        with pytest.raises(SettingsError, match=message):
            validate(MODELS["segmentation"] | {"decoder": decoder, "depth": least - 1}, ModelSettings, where="model")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"window_px": 60, "depth": 3}, "60 is no multiple of 8, as depth 3 needs: set model.window_px to 56 or 64"),
        ({"window_px": 6, "depth": 1}, "6 is no multiple of 4, as depth 1 needs: set model.window_px to 4 or 8"),
        (
            {"window_px": 16, "depth": 4},
            "16 px halved 4 times leaves no 2 x 2 px to learn from: set model.window_px to at least 32 or model.depth "
            "to at most 3",
        ),
        ({"window_px": 2, "depth": 1}, "2 px halved 1 times .*: set model.window_px to at least 4$"),
        ({"decoder": "u-net"}, r"no decoder is called 'u-net' \(did you mean 'unet'\?\)"),
        ({"decoder": "psp"}, "no decoder is called 'psp'; known are unet, unetplusplus, manet, linknet, fpn, deeplab"),
        ({"backbone": "resnet-18"}, r"segmentation-models-pytorch has no encoder 'resnet-18' \(did you mean 'resnet18"),
        ({"backbone": "xyzzy"}, "no encoder 'xyzzy'; resnet18, resnet34 and tu-convnext_tiny are three"),
        ({"backbone": None}, "kind: segmentation needs backbone; it is null"),
        ({"kernel_px": 3}, "kind: segmentation has no use for kernel_px; set it to null"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(SettingsError, match=message):
        validate(MODELS["segmentation"] | changes, ModelSettings, where="params.yaml: model")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": "tu-resnet18x"}, r"timm has no network 'resnet18x' \(did you mean 'resnet18"),
        (
            {"backbone": "tu-vit_tiny_patch16_224"},
            r"tu-vit_tiny_patch16_224 with model.decoder unet and depth 2 cannot be built \(Unsupported model",
        ),
        (
            {"backbone": "tu-swin_tiny_patch4_window7_224"},
            r"cannot take windows of 16 px \(Input height \(16\) doesn't match model \(224\)",
        ),
        ({"backbone": "mit_b0", "decoder": "linknet"}, r"with model.decoder linknet and depth 2 cannot be built"),
    ],
)
def test_encoders_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ModelError, match=message):
        built(**changes)


@pytest.mark.parametrize("decoder", ["unet", "fpn", "deeplabv3plus"])
def test_dropout_is_that_of_the_settings_alone(decoder):
    network = built(decoder=decoder, depth=3, dropout=0.4)
    drops = [layer for layer in network.modules() if isinstance(layer, nn.modules.dropout._DropoutNd) and layer.p > 0]
    assert [layer.p for layer in drops] == [0.4]
    assert network.segmentation_head[0] is drops[0]


def test_random_stems_keep_the_size_of_activations_whatever_the_channels():
    spread = [built([f"C{i}" for i in range(count)]).encoder.conv1.weight.std().item() for count in (3, 13)]
    assert np.isclose(*spread, rtol=0.05)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_by_name_on_r_g_b_is_the_rgb_encoder_itself(tmp_path, suffix):
    encoder, path = encoder_of(depth=3), tmp_path / f"rgb{suffix}"
    (torch.save if suffix == ".pth" else save_file)(plain(encoder.state_dict()), path)
    network = built("RGB", weights=str(path), stem="by_name", depth=3).eval()
    windows = torch.from_numpy(random_windows(2, 3, 32)).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        expected = encoder.to(memory_format=torch.channels_last)(windows)
        assert all(torch.equal(*pair) for pair in zip(network.encoder(windows), expected, strict=True))


def test_by_name_and_averaged_fill_the_first_convolution_scaled(tmp_path):
    encoder, path = encoder_of(), tmp_path / "rgb.safetensors"
    save_file(plain(encoder.state_dict()), path)
    kernels, names = encoder.conv1.weight, ["N", "B", "R", "NDVI", "G"]
    named = built(names, weights=str(path), stem="by_name").encoder.conv1.weight * 5 / 3
    for position, source in {1: 2, 2: 0, 4: 1}.items():
        assert torch.allclose(named[:, position], kernels[:, source])
    averaged = built(names, weights=str(path)).encoder.conv1.weight
    assert torch.allclose(averaged, (kernels.mean(dim=1) * 3 / 5)[:, None].expand_as(averaged))


def test_weights_of_a_whole_classifier_fit_its_encoder(tmp_path):
    torch.manual_seed(1)
    classifier = resnet18(weights=None)
    torch.save(classifier.state_dict(), tmp_path / "classifier.pth")
    network = built(weights=str(tmp_path / "classifier.pth"))
    assert torch.equal(network.encoder.layer1[0].conv1.weight, classifier.layer1[0].conv1.weight)


def test_weights_by_the_names_of_timm_fit_its_encoder(tmp_path):
    torch.manual_seed(1)
    whole = timm.create_model("convnext_atto")
    torch.save(whole.state_dict(), tmp_path / "timm.pth")
    changes = {"backbone": "tu-convnext_atto", "depth": 5, "window_px": 64, "weights": str(tmp_path / "timm.pth")}
    network = built("RGB", stem="by_name", **changes)
    assert torch.equal(network.encoder.model.stem_0.weight, whole.stem[0].weight)
    last = network.encoder.model.stages_3.blocks[-1].mlp.fc2.weight
    assert torch.equal(last, whole.stages[3].blocks[-1].mlp.fc2.weight)


def test_weights_of_another_network_of_this_kind_fit_but_its_head(tmp_path):
    torch.manual_seed(3)
    own = build(model_settings(), ["R", "N"], 5)
    save_file(plain(own.state_dict()), tmp_path / "model.safetensors")
    (tmp_path / "model.json").write_text('{"channels": ["R", "N"]}')
    network = built(["N", "R"], weights=str(tmp_path / "model.safetensors"), stem="by_name")
    assert torch.equal(network.decoder.blocks[0].conv1[0].weight, own.decoder.blocks[0].conv1[0].weight)
    assert torch.allclose(network.encoder.conv1.weight, own.encoder.conv1.weight[:, [1, 0]])
    assert network.segmentation_head[1].weight.shape[0] == 3


def test_weights_that_do_not_fit_are_refused_or_used_in_part(tmp_path):
    state = plain(encoder_of().state_dict())
    missing = state.pop("layer1.0.conv1.weight")
    save_file(state | {"more": torch.zeros(1)}, tmp_path / "part.safetensors")
    changes = {"weights": str(tmp_path / "part.safetensors"), "depth": 3}
    with pytest.raises(ModelError, match=r"missing layer1.0.conv1.weight; unexpected more; .*partial_weights"):
        built(**changes)
    network = built(partial_weights=True, **changes)
    assert torch.equal(network.encoder.layer2[1].conv2.weight, state["layer2.1.conv2.weight"])
    assert not torch.equal(network.encoder.layer1[0].conv1.weight, missing)


def test_imagenet_is_the_librarys_own_fitted_to_the_channels(monkeypatch):
    own, asked = encoder_of(depth=2), []

    def get_encoder(name, **options):  # the network's own encoder does not come from here
        asked.append((name, options))
        return own

    monkeypatch.setattr(smp.encoders, "get_encoder", get_encoder)
    encoder = built(list("ABCDE"), weights="imagenet").encoder
    assert asked == [("resnet18", {"depth": 2, "weights": "imagenet"})]
    expected = (own.conv1.weight.mean(dim=1) * 3 / 5)[:, None]
    assert torch.allclose(encoder.conv1.weight, expected.expand_as(encoder.conv1.weight))
    assert torch.equal(encoder.layer1[1].bn2.running_var, own.layer1[1].bn2.running_var)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            OSError("no such host"),
            r"the weights of resnet18 are not in \$HF_HOME .* \(no such host\); copy that folder",
        ),
        (KeyError("imagenet"), "there are no ImageNet weights of resnet18 .*; set it to none or to a checkpoint"),
    ],
)
def test_imagenet_weights_that_are_not_there_are_refused(monkeypatch, error, message):
    def get_encoder(*_, **__):
        raise error

    monkeypatch.setattr(smp.encoders, "get_encoder", get_encoder)
    with pytest.raises(ModelError, match=message):
        built(weights="imagenet")


def make_pixel_classifier(**changes) -> Classifier:
    settings = model_settings(**changes)
    torch.manual_seed(0)
    network = build(settings, CHANNELS, len(CLASSES))
    randomize_statistics(network)
    return Classifier(network, make_pixel_card(settings, settings_of("segmentation")))


@pytest.mark.parametrize("decoder", sorted(DECODERS))
def test_a_saved_network_comes_back_to_the_bit(tmp_path, decoder):
    classifier = make_pixel_classifier(decoder=decoder, depth=3)
    classifier.save(tmp_path)
    windows = random_windows(3)
    assert np.array_equal(Classifier.load(tmp_path).probabilities(windows), classifier.probabilities(windows))


def test_refuses_windows_of_another_size():
    with pytest.raises(ModelError, match=re.escape("shape (2, 3, 32, 32); the model expects (n, 3, 16, 16)")):
        make_pixel_classifier().probabilities(random_windows(2, 3, 32))


@pytest.mark.parametrize("decoder", ["unet", "fpn"])
def test_probabilities_are_the_same_bits_whatever_part_a_pixel_is_in(decoder):
    classifier = make_pixel_classifier(decoder=decoder, depth=3)
    margin, core = classifier.card.margin_px, classifier.card.core_px
    random = np.random.default_rng(2)
    values = random.random((3, 5 * core + 3 + 2 * margin, 43 + 2 * margin), dtype=np.float32)
    chosen = random.random((5 * core + 3, 43)) < 0.3
    whole = np.zeros((*chosen.shape, 3), dtype=np.float32)
    whole[chosen] = pixel_probabilities([classifier], values, chosen)[0]
    assert np.allclose(whole[chosen].sum(axis=1), 1)
    for height in (core, 2 * core, 3 * core):
        for top in range(0, len(chosen), height):
            part = chosen[top : top + height]
            strip = values[:, top : top + len(part) + 2 * margin]
            assert np.array_equal(pixel_probabilities([classifier], strip, part)[0], whole[top : top + height][part])
