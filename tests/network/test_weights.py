import io
import json
import os
import re
from email.message import Message
from urllib.error import URLError

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torchvision.models import DenseNet121_Weights, ResNet18_Weights

from landfold.core.digests import file_sha256
from landfold.network import weights
from landfold.network.errors import ModelError
from landfold.network.model import Classifier, build
from landfold.network.weights import adapt_input_weights
from tests.network.test_model import (
    NO_RESNET,
    TORCHVISION,
    make_card,
    make_classifier,
    make_settings,
    random_windows,
    randomize_statistics,
)

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def rgb() -> torch.nn.Module:
    """A network for R, G and B as torchvision makes it, with weights of its own."""
    torch.manual_seed(1)
    network = torchvision.models.resnet18(weights=None)
    randomize_statistics(network)
    return network.eval().to(memory_format=torch.channels_last)


@pytest.fixture
def checkpoint(rgb, tmp_path):
    path = tmp_path / "rgb.safetensors"
    save_file(plain(rgb.state_dict()), path)
    return path


def plain(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.contiguous() for name, tensor in state.items()}


def features(network: torch.nn.Module, windows: torch.Tensor) -> torch.Tensor:
    """What reaches the last layer."""
    seen = []
    hook = network.avgpool.register_forward_hook(lambda module, given, output: seen.append(output))
    with torch.inference_mode():
        network.eval()(windows.contiguous(memory_format=torch.channels_last))
    hook.remove()
    return seen[0]


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_by_name_on_r_g_b_is_the_rgb_network_itself(rgb, tmp_path, suffix):
    path = tmp_path / f"rgb{suffix}"
    (torch.save if suffix == ".pth" else save_file)(plain(rgb.state_dict()), path)
    network = build(make_settings(weights=str(path), stem="by_name", **TORCHVISION), ["R", "G", "B"], 4)
    windows = torch.from_numpy(random_windows(3, size_px=64))
    expected = features(rgb, windows)
    assert (expected > 0).any()
    assert torch.equal(features(network, windows), expected)


def test_by_name_is_the_rgb_network_itself_where_that_is_no_resnet(tmp_path):
    torch.manual_seed(1)
    own = torchvision.models.shufflenet_v2_x0_5(weights=None).eval().to(memory_format=torch.channels_last)
    torch.save(own.state_dict(), tmp_path / "own.pth")
    settings = make_settings(
        backbone="shufflenet_v2_x0_5", weights=str(tmp_path / "own.pth"), stem="by_name", **NO_RESNET
    )
    network = build(settings, ["R", "G", "B"], 4).eval()
    windows = torch.from_numpy(random_windows(2, size_px=32)).contiguous(memory_format=torch.channels_last)
    for name in ("fc", "fc.1"):
        (own if name == "fc" else network).set_submodule(name, torch.nn.Identity())
    with torch.inference_mode():
        assert torch.equal(network(windows), own(windows))


@pytest.mark.parametrize("count", [1, 2, 3, 5, 13])
def test_averaged_sees_grey_as_the_rgb_network_does(rgb, checkpoint, count):
    network = build(make_settings(weights=str(checkpoint), **TORCHVISION), [f"C{i}" for i in range(count)], 4)
    grey = torch.from_numpy(random_windows(2, channels=1, size_px=32))
    with torch.inference_mode():
        expected = rgb.conv1(grey.expand(-1, 3, -1, -1))
        assert torch.allclose(network.conv1(grey.expand(-1, count, -1, -1)), expected, atol=1e-5)
    assert torch.allclose(
        features(network, grey.expand(-1, count, -1, -1)), features(rgb, grey.expand(-1, 3, -1, -1)), atol=1e-3
    )


def test_averaged_has_one_kernel_for_all_and_by_name_those_of_the_names(rgb):
    kernels = rgb.conv1.weight.detach()
    names = ["N", "B", "R", "NDVI", "G"]
    named = adapt_input_weights(kernels, names, by_name=True) * 5 / 3
    for position, source in {1: 2, 2: 0, 4: 1}.items():
        assert torch.allclose(named[:, position], kernels[:, source])
    for position in (0, 3):
        assert torch.allclose(named[:, position], kernels.mean(dim=1))
    averaged = adapt_input_weights(kernels, names, by_name=False)
    assert torch.allclose(averaged, (kernels.mean(dim=1) * 3 / 5)[:, None].expand_as(averaged))


def test_by_name_follows_names_not_positions(checkpoint):
    settings = make_settings(weights=str(checkpoint), stem="by_name", **TORCHVISION)
    names, order = ["R", "N", "B", "G"], [2, 0, 3, 1]
    windows = torch.from_numpy(random_windows(2, channels=4, size_px=32))
    straight = features(build(settings, names, 4), windows)
    shuffled = features(build(settings, [names[i] for i in order], 4), windows[:, order])
    assert torch.allclose(straight, shuffled, atol=1e-4)
    assert not torch.allclose(straight, features(build(settings, names, 4), windows[:, order]), atol=1e-2)


def test_other_layers_keep_their_weights_and_the_head_does_not(rgb, checkpoint):
    network = build(make_settings(weights=str(checkpoint), **TORCHVISION, stem="averaged"), list("RGBN"), 4)
    state = network.state_dict()
    kept = [name for name in rgb.state_dict() if name != "conv1.weight" and not name.startswith("fc.")]
    assert len(kept) == 119
    assert all(torch.equal(state[name], rgb.state_dict()[name]) for name in kept)
    assert state["fc.1.weight"].shape == (4, 512)


def test_a_shorter_network_takes_what_it_has_of_a_whole_one(rgb, checkpoint):
    network = build(make_settings(weights=str(checkpoint), **(TORCHVISION | {"blocks": 2})), ["R"], 4)
    assert torch.equal(network.layer2[1].conv2.weight, rgb.layer2[1].conv2.weight)


def test_a_checkpoint_of_another_head_or_without_batch_counters_fits(rgb, tmp_path):
    state = {name: t for name, t in plain(rgb.state_dict()).items() if not name.endswith("num_batches_tracked")}
    save_file(state | {"fc.weight": torch.zeros(7, 512)}, tmp_path / "old.safetensors")
    settings = make_settings(weights=str(tmp_path / "old.safetensors"), stem="by_name", **TORCHVISION)
    network = build(settings, ["R", "G", "B"], 4)
    assert torch.equal(network.layer4[1].bn2.running_var, rgb.layer4[1].bn2.running_var)


def test_a_checkpoint_in_half_precision_fits(rgb, tmp_path):
    save_file({name: t.half() for name, t in plain(rgb.state_dict()).items()}, tmp_path / "half.safetensors")
    network = build(make_settings(weights=str(tmp_path / "half.safetensors"), **TORCHVISION), ["R"], 4)
    assert network.layer1[0].conv1.weight.dtype == network.conv1.weight.dtype == torch.float32
    assert torch.allclose(network.conv1.weight, rgb.conv1.weight.mean(1, keepdim=True) * 3, atol=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("bn1.weight"), "missing bn1.weight; unexpected none; of another shape none; to use what fits"),
        (lambda s: s.update(more=torch.zeros(1)), "missing none; unexpected more; of another shape none; to use what"),
        (
            lambda s: s.update({"layer1.0.conv2.weight": torch.zeros(64, 64, 1, 1)}),
            r"of another shape layer1.0.conv2.weight \(64, 64, 1, 1\) for \(64, 64, 3, 3\)$",
        ),
    ],
)
def test_refuses_a_checkpoint_that_does_not_fit(rgb, tmp_path, change, message):
    state = plain(rgb.state_dict())
    change(state)
    save_file(state, tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match=rf"other.safetensors does not fit model.backbone: .*{message}"):
        build(make_settings(weights=str(tmp_path / "other.safetensors"), **TORCHVISION), ["R"], 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.update({"conv1.weight": torch.zeros(64, 4, 7, 7)}), r"is \(64, 4, 7, 7\), expected 3"),
        (
            lambda s: s.update({"conv1.weight": torch.zeros(64, 3, 3, 3)}),
            "3 px, that of model has 7; set model.kernel_px to 3",
        ),
    ],
)
def test_refuses_a_first_convolution_that_cannot_be_adapted(rgb, tmp_path, change, message):
    state = plain(rgb.state_dict())
    change(state)
    save_file(state, tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match=rf"other.safetensors: its first convolution .*{message}"):
        build(make_settings(weights=str(tmp_path / "other.safetensors"), **TORCHVISION), ["R"], 2)


def test_partial_weights_are_used_as_far_as_they_fit(rgb, tmp_path):
    state = plain(rgb.state_dict())
    for name in [name for name in state if name.startswith("layer4.")]:
        del state[name]
    save_file(state | {"more": torch.zeros(1)}, tmp_path / "partial.safetensors")
    settings = make_settings(weights=str(tmp_path / "partial.safetensors"), partial_weights=True, **TORCHVISION)
    network = build(settings, ["R", "G"], 2)
    assert torch.equal(network.layer3[1].bn2.running_var, rgb.layer3[1].bn2.running_var)
    assert torch.equal(network.layer4[1].bn2.running_var, torch.ones(512))
    with pytest.raises(ModelError, match=r"missing layer4.0.conv1.weight, .*, \.\.\.; unexpected more;"):
        build(settings.model_copy(update={"partial_weights": False}), ["R", "G"], 2)


def test_weights_of_which_nothing_fits_are_refused_even_if_partial(tmp_path):
    save_file({"encoder.weight": torch.zeros(3)}, tmp_path / "alien.safetensors")
    settings = make_settings(weights=str(tmp_path / "alien.safetensors"), partial_weights=True, **TORCHVISION)
    with pytest.raises(ModelError, match=r"does not fit .*; unexpected encoder.weight; of another shape none$"):
        build(settings, ["R"], 2)


def test_a_fold_of_ones_own_is_a_checkpoint_whose_channels_are_known(tmp_path):
    source = make_classifier(channels=["R", "N", "S1"])
    source.save(tmp_path)
    settings = make_settings(weights=str(tmp_path / "model.safetensors"), stem="by_name")
    kernels = source.network.conv1.weight
    same = build(settings, ["S1", "R", "N"], 5)
    assert torch.equal(same.conv1.weight, kernels[:, [2, 0, 1]])
    assert torch.equal(same.layer1[1].bn2.running_mean, source.network.layer1[1].bn2.running_mean)
    more = build(settings, ["N", "NDVI"], 5)
    assert torch.allclose(more.conv1.weight, torch.stack([kernels[:, 1], kernels.mean(1)], dim=1) * 3 / 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"channels": ["R", "N"]}', r"first convolution is .*, expected 2 channels \(R, N\); name those it has"),
        ('{"channels": "RGB"}', r"rgb.json: channels: found 'RGB', expected names"),
        ('{"channels": []}', r"rgb.json: channels: found \[\], expected names"),
        ("{", r"rgb.json: not valid JSON"),
    ],
)
def test_refuses_channels_that_are_not_those_of_the_checkpoint(checkpoint, text, message):
    checkpoint.with_suffix(".json").write_text(text)
    with pytest.raises(ModelError, match=message):
        build(make_settings(weights=str(checkpoint), **TORCHVISION), ["R"], 2)


def test_a_json_file_without_channels_says_nothing(rgb, checkpoint):
    checkpoint.with_suffix(".json").write_text(json.dumps({"epochs": 90}))
    network = build(make_settings(weights=str(checkpoint), stem="by_name", **TORCHVISION), ["R", "G", "B"], 2)
    assert torch.equal(network.conv1.weight, rgb.conv1.weight)


def test_refuses_a_checkpoint_that_is_absent(tmp_path):
    settings = make_settings(weights=str(tmp_path / "absent.pth"), **TORCHVISION)
    with pytest.raises(ModelError, match=r"absent.pth: no such file; expected none, imagenet or the path"):
        build(settings, ["R"], 2)


class Intruder:
    """Code that a pickle would run."""

    def __reduce__(self):
        return os.system, ("echo intruder >> intruder",)


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("a.pth", lambda path: path.write_bytes(b"<html>not found</html>"), "not a checkpoint of weights alone"),
        ("a.pth", lambda path: path.write_bytes(b""), "not a checkpoint of weights alone"),
        ("a.pth", lambda path: torch.save({"conv1.weight": Intruder()}, path), "not a checkpoint of weights alone"),
        ("a.pt", lambda path: torch.save(torch.nn.Linear(2, 2), path), "not a checkpoint of weights alone"),
        ("a.safetensors", lambda path: path.write_bytes(b"PK\x03\x04 a zip"), "not a checkpoint of weights alone"),
        ("a.pth", lambda path: torch.save({"state_dict": {"a": torch.zeros(1)}}, path), "expected a state dict"),
        ("a.pth", lambda path: torch.save(torch.zeros(3), path), "expected a state dict"),
    ],
)
def test_refuses_a_file_that_is_no_checkpoint(tmp_path, monkeypatch, name, write, message):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / name)
    with pytest.raises(ModelError, match=rf"{name}: {message}"):
        build(make_settings(weights=str(tmp_path / name), **TORCHVISION), ["R"], 2)
    assert not (tmp_path / "intruder").exists()


def test_a_classifier_from_pretrained_weights_loads_without_them(tmp_path, checkpoint):
    card = make_card(model=make_settings(weights=str(checkpoint), **TORCHVISION))
    classifier = Classifier(build(card.model, card.channels, 3), card)
    classifier.save(tmp_path)
    checkpoint.unlink()
    windows = random_windows(2)
    assert (Classifier.load(tmp_path).probabilities(windows) == classifier.probabilities(windows)).all()


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """torch's cache, empty, on a machine without a network."""

    def offline(url, *rest, **options):
        raise URLError("Name or service not known")

    monkeypatch.setattr(torch.hub, "urlopen", offline)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return tmp_path / "hub/checkpoints"


def put(state, enum, folder, monkeypatch):
    """Make a state the ImageNet weights of torchvision, cached under a name that ends in its digest."""
    folder.mkdir(parents=True)
    torch.save(state, folder / "new.pth")
    file = folder / f"net-{file_sha256(folder / 'new.pth')[:8]}.pth"
    (folder / "new.pth").rename(file)
    monkeypatch.setattr(enum.IMAGENET1K_V1.value, "url", f"https://example.org/models/{file.name}")
    return file


IMAGENET = {"weights": "imagenet", "stem": "by_name"} | TORCHVISION


def test_imagenet_uses_the_cached_file_without_a_network(cache, monkeypatch, rgb):
    put(rgb.state_dict(), ResNet18_Weights, cache, monkeypatch)
    network = build(make_settings(**IMAGENET), ["R", "G", "B"], 2)
    assert torch.equal(network.conv1.weight, rgb.conv1.weight)
    assert torch.equal(network.layer4[1].bn2.running_var, rgb.layer4[1].bn2.running_var)


def test_imagenet_without_network_is_refused_in_one_sentence(cache):
    file = cache / "resnet18-f37072fd.pth"
    with pytest.raises(ModelError) as caught:
        build(make_settings(**IMAGENET), ["R", "G", "B"], 2)
    assert str(caught.value) == (
        f"model.weights: imagenet: {file} is not there and https://download.pytorch.org/models/{file.name} cannot be "
        f"fetched (<urlopen error Name or service not known>); get {file.name} from that address elsewhere and put it "
        f"into {cache}, or set model.weights to none or to a checkpoint"
    )
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("change", [lambda data: data[:-100], lambda data: data + b" ", lambda data: b""])
def test_a_cached_file_that_is_not_whole_is_refused(cache, monkeypatch, rgb, change):
    file = put(rgb.state_dict(), ResNet18_Weights, cache, monkeypatch)
    file.write_bytes(change(file.read_bytes()))
    begins = file.stem.removeprefix("net-")
    message = rf"{re.escape(str(file))} is incomplete or another file: .* begins with .{{8}}, expected {begins}; delete"
    with pytest.raises(ModelError, match=message):
        build(make_settings(**IMAGENET), ["R", "G", "B"], 2)


def test_a_download_is_given_up_when_nothing_answers(cache, monkeypatch):
    seen = []

    def silent(request):
        seen.append((request.full_url, weights.socket.getdefaulttimeout()))
        raise TimeoutError("timed out")

    monkeypatch.setattr(torch.hub, "urlopen", silent)
    with pytest.raises(ModelError, match=r"cannot be fetched \(timed out\)"):
        build(make_settings(**IMAGENET), ["R", "G", "B"], 2)
    assert seen == [("https://download.pytorch.org/models/resnet18-f37072fd.pth", weights.TIMEOUT_S)]
    assert weights.socket.getdefaulttimeout() is None


class Response(io.BytesIO):
    """What urlopen gives."""

    def info(self):
        return Message()


def test_a_download_is_kept_if_it_is_whole_and_else_refused(cache, monkeypatch, rgb):
    file = put(rgb.state_dict(), ResNet18_Weights, cache, monkeypatch)
    content = file.read_bytes()
    file.unlink()
    monkeypatch.setattr(torch.hub, "urlopen", lambda request: Response(content[:-7]))
    with pytest.raises(ModelError, match=r"cannot be fetched \(invalid hash value"):
        build(make_settings(**IMAGENET), ["R", "G", "B"], 2)
    assert list(cache.iterdir()) == []
    monkeypatch.setattr(torch.hub, "urlopen", lambda request: Response(content))
    network = build(make_settings(**IMAGENET), ["R", "G", "B"], 2)
    assert torch.equal(network.conv1.weight, rgb.conv1.weight)
    assert list(cache.iterdir()) == [file]
    assert file.read_bytes() == content


def test_imagenet_of_a_densenet_has_older_names(cache, monkeypatch):
    settings = make_settings(backbone="densenet121", weights="imagenet", stem="averaged", **NO_RESNET)
    own = torchvision.models.densenet121(weights=None).state_dict()
    renamed = {re.sub(r"(denselayer\d+\.(?:norm|conv))([12]\.)", r"\1.\2", name): t for name, t in own.items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in renamed
    put(renamed, DenseNet121_Weights, cache, monkeypatch)
    name = "features.denseblock4.denselayer16.conv2.weight"
    assert torch.equal(build(settings, ["R", "G", "N"], 2).state_dict()[name], own[name])


def test_imagenet_of_a_network_that_has_none_is_refused(cache):
    with pytest.raises(ModelError, match="no IMAGENET1K_V1 weights of vit_h_14; set it to none"):
        weights.read_weights("imagenet", "vit_h_14")
