"""Sections ``model``, ``train`` and ``machine`` of params.yaml."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from landfold.core.errors import did_you_mean
from landfold.core.settings import Settings, used_or_null

RESNETS = {
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d", "resnext101_32x8d"),
    *("resnext101_64x4d", "wide_resnet50_2", "wide_resnet101_2"),
}
"""Classifiers of torchvision with four groups of residual blocks."""

_FAMILIES = """
    alexnet convnext_{base,large,small,tiny} densenet{121,161,169,201} efficientnet_b{0,1,2,3,4,5,6,7}
    efficientnet_v2_{l,m,s} googlenet inception_v3 maxvit_t mnasnet{0_5,0_75,1_0,1_3} mobilenet_v2
    mobilenet_v3_{large,small} regnet_x_{16gf,1_6gf,32gf,3_2gf,400mf,800mf,8gf}
    regnet_y_{128gf,16gf,1_6gf,32gf,3_2gf,400mf,800mf,8gf} shufflenet_v2_x{0_5,1_0,1_5,2_0} squeezenet1_{0,1}
    swin_{b,s,t} swin_v2_{b,s,t} vgg{11,11_bn,13,13_bn,16,16_bn,19,19_bn} vit_b_{16,32} vit_h_14 vit_l_{16,32}
"""

_ENCODER_FAMILIES = """
    densenet{121,161,169,201} dpn{68,68b,92,98,107,131} efficientnet-b{0,1,2,3,4,5,6,7} inceptionresnetv2 inceptionv4
    mit_b{0,1,2,3,4,5} mobilenet_v2 resnet{18,34,50,101,152} resnext50_32x4d resnext101_32x{4d,8d,16d,32d,48d}
    se_resnet{50,101,152} se_resnext50_32x4d se_resnext101_32x4d senet154 vgg{11,11_bn,13,13_bn,16,16_bn,19,19_bn}
    xception
"""


def _names(families: str) -> set[str]:
    """The names that a list such as ``vgg{11,13}`` stands for."""
    parts = [family.rstrip("}").partition("{") for family in families.split()]
    return {start + end for start, _, ends in parts for end in ends.split(",")}


CLASSIFIERS = RESNETS | _names(_FAMILIES)
"""Names of all classifiers of torchvision, so that settings are checked without importing it; a test compares them."""

ENCODERS = _names(_ENCODER_FAMILIES)
"""Encoders of segmentation-models-pytorch, but for those that it gives up (timm-...) and for MobileOne, which has two
first convolutions; a test compares them."""

TIMM = "tu-"
"""How the names of encoders begin that segmentation-models-pytorch takes from timm."""

DECODERS = {"unet": 1, "unetplusplus": 2, "manet": 1, "linknet": 1, "fpn": 3, "deeplabv3plus": 3}
"""Decoders of segmentation-models-pytorch that take small windows, and the least depth of the encoder for each."""


class TrainSettings(Settings):
    """Section ``train`` of params.yaml."""

    epochs: int = Field(ge=1, le=1_000_000)
    """how many epochs"""
    epoch_size: int | None = Field(ge=2, le=10**12)
    """patches, pixels or windows that an epoch shows, drawn at random; null: all patches or pixels, once"""
    max_pixels: int | None = Field(ge=2, le=10**10)
    """labels.unit pixel: a training learns from at most so many labelled pixels, drawn at random; null in unit patch"""
    batch_size: int = Field(ge=2, le=1_000_000)
    """patches, pixels or windows in one step, over all processes; lower it when memory runs out"""
    learning_rate: float = Field(gt=0, le=100)
    """highest learning rate of AdamW"""
    weight_decay: float = Field(ge=0, le=100)
    """decoupled weight decay of AdamW"""
    schedule: Literal["one-cycle", "cosine", "constant"]
    """learning rate over the steps: up for 30 % then down, from the top down, or constant"""
    warmup_epochs: float = Field(ge=0, le=1_000_000)
    """cosine, constant: epochs of linear warm-up; one-cycle has its own"""
    clip_norm: float = Field(ge=0, le=1e9)
    """largest norm of the gradient of all weights; longer ones are scaled down to it; 0: no limit"""
    label_smoothing: float = Field(ge=0, lt=1)
    """share of the target spread over all classes"""
    class_weights: Literal["none", "sqrt", "balanced"]
    """weight of a class in the loss: 1, or one over the (square root of the) number of its patches"""
    sampling: Literal["shuffled", "balanced"]
    """an epoch shows each patch once, or as many draws with replacement, all classes equally likely"""
    average: Literal["none", "ema", "last"]
    """weights that are used: those of the last step, their exponential moving average over the steps, or the mean of
    those at the end of the last epochs"""
    ema_decay: float = Field(gt=0, lt=1)
    """ema: decay, the share of the average that remains after a step"""
    average_epochs: int = Field(ge=1, le=1_000_000)
    """last: how many epochs"""
    early_stopping: int | None = Field(ge=1, le=1_000_000)
    """end after so many epochs without a lower loss on an inner part of the training zones, and use the weights of the
    best epoch; null: train for all epochs, on all training patches"""
    inner_folds: int = Field(ge=2, le=1000)
    """early stopping: the inner part is one of so many folds of the training zones"""
    flips_and_rotations: bool
    """D4 augmentation: a random flip and rotation by a multiple of 90 degrees for each patch, eight in all"""
    spectral_jitter: float = Field(ge=0, lt=1)
    """standard deviation of a random gain about 1 and offset about 0, per channel and patch; 0: none"""
    band_dropout: float = Field(ge=0, lt=1)
    """share of the channels of each patch that are set to 0, at random"""
    devices: Annotated[int, Field(ge=1, le=1024)] | Literal["auto"]
    """processes on this machine, one for each GPU; auto: as many as GPUs, one without"""
    nodes: int = Field(ge=1, le=10_000)
    """machines that train together"""
    precision: Literal["32-true", "bf16-mixed", "16-mixed"]
    """number format of the network's arithmetic; the mixed ones are for GPUs"""
    compile: bool
    """compile the network with torch.compile: minutes at first, then faster on a GPU; needs a C++ compiler"""
    deterministic: bool
    """only algorithms that give equal bytes on every run, also on a GPU (slower there)"""
    seed: int = Field(ge=0, le=2**31 - 1)
    """seed of initial weights, order and augmentation; each fold adds its number"""

    @model_validator(mode="after")
    def _settings_agree(self) -> Self:
        if self.warmup_epochs and self.schedule == "one-cycle":
            raise ValueError(
                "one-cycle warms up by itself: set train.warmup_epochs to 0 or train.schedule to cosine or constant"
            )
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"train.warmup_epochs must be below train.epochs ({self.epochs})")
        if self.average == "last" and self.early_stopping is not None:
            raise ValueError(
                "train.average: last cannot be combined with train.early_stopping, which chooses the best epoch: "
                "set the first to ema or none, or the second to null"
            )
        if self.average == "last" and self.average_epochs > self.epochs:
            raise ValueError(f"train.average_epochs must be at most train.epochs ({self.epochs})")
        return self


class MachineSettings(Settings):
    """Section ``machine`` of params.yaml: where stages run. It is not a dependency of any stage."""

    device: Literal["auto", "cpu", "cuda"]
    """auto: a GPU if there is one; cuda: a GPU or an error"""
    cache_gb: float = Field(ge=0, le=1_000_000)
    """patches of up to so many GB are held in memory, more in a temporary file that is memory-mapped"""


class ModelSettings(Settings):
    """Section ``model`` of params.yaml. A field that the kind does not use is null, so that none is ignored."""

    USES: ClassVar[dict[str, set[str]]] = {
        "surroundings": {"boxes_px", "bins", "hidden", "noise", "dropout"},
        "classical": {"boxes_px"},
        "segmentation": {"backbone", "decoder", "depth", "window_px", "weights", "partial_weights", "stem", "dropout"},
        "classifier": {"backbone", "weights", "partial_weights", "stem", "dropout"},
    }
    """kind: the fields that it needs; a ResNet as a classifier needs RESNET_FIELDS, too"""

    RESNET_FIELDS: ClassVar[tuple[str, ...]] = ("kernel_px", "stride_px", "pooling", "blocks")

    kind: Literal["surroundings", "classical", "segmentation", "classifier"]
    """surroundings: each pixel by its channels and their means and deviations around it; classical: the same by the
    best of scikit-learn's models; segmentation: encoder and decoder; classifier: one class for a patch"""
    dropout: float | None = Field(ge=0, lt=1)
    """networks: share of features dropped while training: after each hidden layer, or before the last layer"""
    boxes_px: list[Annotated[int, Field(ge=3, le=255)]] | None
    """surroundings, classical: sides of the boxes around each pixel, odd, rising"""
    bins: int | None = Field(ge=1, le=64)
    """surroundings: each feature is coded piecewise linearly between so many quantiles of the training pixels"""
    hidden: list[Annotated[int, Field(ge=1, le=65_536)]] | None
    """surroundings: sizes of the hidden layers"""
    noise: float | None = Field(ge=0, le=10)
    """surroundings: Gaussian noise on the features while training, in their standard deviations"""
    backbone: str | None
    """classifier: torchvision's name, such as resnet18; segmentation: an encoder, also timm's after tu-"""
    decoder: str | None
    """segmentation: the decoder: unet, unetplusplus, manet, linknet, fpn or deeplabv3plus"""
    depth: int | None = Field(ge=1, le=5)
    """segmentation: how often the encoder halves the resolution"""
    window_px: int | None = Field(ge=2, le=4096)
    """segmentation: side of the windows that are learned from; the map takes their central halves"""
    weights: str | None = Field(min_length=1)
    """none: random; imagenet: torchvision's or the encoder's; else the path of a checkpoint (.pth or .safetensors)"""
    partial_weights: bool | None
    """whether weights that lack layers of the network or have others are used as far as they fit, or refused"""
    stem: Literal["averaged", "by_name"] | None
    """how pretrained RGB kernels fill the first convolution: their mean in every channel, or R, G and B
    kernels at those bands and the mean elsewhere; both scaled by 3/C"""
    kernel_px: Literal[3, 7] | None
    """ResNets: side of the first convolution's kernels; 7 is torchvision's, which ImageNet weights need"""
    stride_px: Literal[1, 2] | None
    """ResNets: stride of the first convolution; 2 is torchvision's, 1 keeps more detail for four times the work"""
    pooling: bool | None
    """ResNets: halve the resolution after the first convolution, as torchvision does"""
    blocks: int | None = Field(ge=1, le=4)
    """ResNets: groups of residual blocks; 4 is torchvision's, fewer suit small windows and few patches"""

    @property
    def of_pixels(self) -> bool:
        """Whether it gives each pixel a class, and not a patch."""
        return self.kind != "classifier"

    @property
    def by_features(self) -> bool:
        """Whether it sees each pixel by its own features, and no windows."""
        return self.kind in ("surroundings", "classical")

    @model_validator(mode="after")
    def _backbone_is_known(self) -> Self:
        if self.kind == "classifier" and self.backbone is not None and self.backbone not in CLASSIFIERS:
            hint = did_you_mean(self.backbone, CLASSIFIERS) or "; resnet18, resnet34 and resnet50 are three"
            raise ValueError(f"backbone: torchvision has no classifier '{self.backbone}'{hint}")
        return self

    @model_validator(mode="after")
    def _fields_of_the_kind(self) -> Self:
        used = self.USES[self.kind]
        for field in sorted(set().union(*self.USES.values())):
            used_or_null(f"kind: {self.kind}", field, getattr(self, field), field in used)
        resnet = self.kind == "classifier" and self.backbone in RESNETS
        for field in self.RESNET_FIELDS:
            what = f"backbone: {self.backbone}" if self.kind == "classifier" else f"kind: {self.kind}"
            used_or_null(what, field, getattr(self, field), resnet)
        return self

    @model_validator(mode="after")
    def _encoder_and_decoder_are_known(self) -> Self:
        if self.kind != "segmentation":
            return self
        if self.backbone not in ENCODERS and not self.backbone.startswith(TIMM):
            hint = did_you_mean(self.backbone, ENCODERS) or "; resnet18, resnet34 and tu-convnext_tiny are three"
            raise ValueError(f"backbone: segmentation-models-pytorch has no encoder '{self.backbone}'{hint}")
        if self.decoder not in DECODERS:
            hint = did_you_mean(self.decoder, DECODERS) or f"; known are {', '.join(DECODERS)}"
            raise ValueError(f"decoder: no decoder is called '{self.decoder}'{hint}")
        return self

    @model_validator(mode="after")
    def _depth_fits_decoder_and_window(self) -> Self:
        if self.kind != "segmentation":
            return self
        least = DECODERS[self.decoder]
        if self.depth < least:
            raise ValueError(f"decoder: {self.decoder} needs a depth of at least {least}: set model.depth to it")
        step = max(2**self.depth, 4)
        if self.window_px < 2 ** (self.depth + 1):
            raise ValueError(
                f"window_px: {self.window_px} px halved {self.depth} times leaves no 2 x 2 px to learn from: set "
                f"model.window_px to at least {2 ** (self.depth + 1)}"
                + (f" or model.depth to at most {self.window_px.bit_length() - 2}" if self.window_px >= 4 else "")
            )
        if self.window_px % step:
            low = self.window_px // step * step
            raise ValueError(
                f"window_px: {self.window_px} is no multiple of {step}, as depth {self.depth} needs: set "
                f"model.window_px to {low} or {low + step}"
            )
        return self

    @model_validator(mode="after")
    def _boxes_are_odd_and_rising(self) -> Self:
        boxes = self.boxes_px or []
        if any(side % 2 == 0 for side in boxes) or boxes != sorted(set(boxes)):
            raise ValueError(f"boxes_px: expected odd sides in rising order, such as [3, 7, 15], found {boxes}")
        return self

    @model_validator(mode="after")
    def _kernels_fit_weights(self) -> Self:
        if self.kind == "classifier" and self.weights == "imagenet" and self.kernel_px not in (7, None):
            raise ValueError("ImageNet weights have kernels of 7 px: set model.kernel_px to 7 or model.weights to none")
        return self
