"""The networks of the sweep: one small member of every family of timm, torchvision's, smp's, and the patterns.

No weights are fetched. Inputs are as small as the network allows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn as nn

from tests.bench.structure.patterns import PATTERNS
from tests.bench.structure.patterns.base import image


@dataclass(frozen=True)
class Member:
    """One network of the sweep."""

    name: str
    family: str
    make: Callable[[], nn.Module]
    example: Callable[[], Any]


TIMM: dict[str, str] = {
    "beit": "beit_base_patch16_224:224",
    "byoanet": (
        "botnet26t_256:256 eca_botnext26ts_256:256 halo2botnet50ts_256:256 halonet_h1:256 haloregnetz_b:224 "
        "lambda_resnet26t lamhalobotnet50ts_256:256 sebotnet33ts_256:256 sehalonet33ts:256"
    ),
    "byobnet": (
        "bat_resnext26ts:256 eca_resnext26ts gcresnet33ts gcresnext26ts gernet_s mobileone_s0 mobileone_s1 regnetz_b16 "
        "repvgg_a0 resnet32ts resnext26ts seresnet33ts seresnext26ts test_byobnet"
    ),
    "cait": "cait_xxs24_224:224",
    "coat": "coat_tiny:224",
    "convit": "convit_tiny:224",
    "convmixer": "convmixer_768_32",
    "convnext": "convnext_atto convnext_atto_rms convnextv2_atto",
    "cpubone": "cpubone_nano",
    "crossvit": "crossvit_tiny_240",
    "csatv2": "csatv2",
    "cspnet": "cs3darknet_focus_s cspdarknet53 cspresnet50 cspresnext50 darknet17 darknetaa53 sedarknet21",
    "cspnext": "cspnext_tiny",
    "davit": "davit_tiny",
    "deit": "deit_tiny_patch16_224:224",
    "densenet": "densenet121 densenetblur121d",
    "dla": "dla46x_c",
    "dpn": "dpn48b",
    "edgenext": "edgenext_xx_small",
    "efficientformer": "efficientformer_l1:224",
    "efficientformer_v2": "efficientformerv2_s0:224",
    "efficientnet": (
        "efficientnet_b0 tf_efficientnetv2_b0 fbnetc_100 gc_efficientnetv2_rw_t mixnet_s mnasnet_small "
        "mobilenet_edgetpu_100 mobilenetv2_035 semnasnet_050 spnasnet_100 tinynet_e"
    ),
    "efficientvim": "efficientvim_m1",
    "efficientvit_mit": "efficientvit_b0",
    "efficientvit_msra": "efficientvit_m0",
    "eva": "eva02_tiny_patch14_224:224 vit_pe_spatial_tiny_patch16_512:512",
    "fasternet": "fasternet_t0",
    "fastvit": "fastvit_s12",
    "focalnet": "focalnet_tiny_srf",
    "gcvit": "gcvit_xxtiny:224",
    "ghostnet": "ghostnet_050 ghostnetv3_050",
    "hardcorenas": "hardcorenas_b",
    "hgnet": "hgnet_tiny hgnetv2_b0",
    "hiera": "hiera_tiny_224:224",
    "hieradet_sam2": "hieradet_small sam2_hiera_tiny",
    "hrnet": "hrnet_w18_small",
    "iformer": "iformer_t",
    "inception_next": "inception_next_atto",
    "inception_resnet_v2": "ens_adv_inception_resnet_v2:96",
    "inception_v3": "adv_inception_v3:96",
    "inception_v4": "inception_v4:96",
    "lcnetv2": "lcnetv2_small",
    "levit": "levit_128s:224",
    "lowformer": "lowformer_b0",
    "mambaout": "mambaout_femto",
    "maxxvit": (
        "coatnet_pico_rw_224:224 coatnext_nano_rw_224:224 maxvit_pico_rw_256:256 maxxvit_rmlp_nano_rw_256:256 "
        "maxxvitv2_nano_rw_256:256"
    ),
    "metaformer": "caformer_s18 convformer_s18 poolformer_s12 poolformerv2_s12",
    "mlp_mixer": "gmixer_12_224:224 gmlp_ti16_224:224 mixer_s16_224:224 resmlp_12_224:224",
    "mobilenetv3": "fbnetv3_b lcnet_035 mobilenetv3_small_050",
    "mobilenetv5": "mobilenetv5_base",
    "mobilevit": "mobilevit_xxs mobilevitv2_050",
    "mvitv2": "mvitv2_tiny",
    "naflexvit": "naflexvit_base_patch16_parfac_gap",
    "nasnet": "nasnetalarge",
    "nest": "jx_nest_tiny:224",
    "nextvit": "nextvit_small",
    "nfnet": "nfnet_f0 eca_nfnet_l0 nf_regnet_b0",
    "pit": "pit_ti_224:224",
    "pnasnet": "pnasnet5large",
    "pvt_v2": "pvt_v2_b0",
    "qwen3_vit": "qwen3_vit_88m",
    "rdnet": "rdnet_tiny",
    "regnet": "regnetv_040 regnetx_002 regnety_002 regnetz_005",
    "repghost": "repghostnet_050",
    "repvit": "repvit_m1",
    "res2net": "res2next50",
    "resnest": "resnest14d",
    "resnet": (
        "resnet10t ecaresnet26t ecaresnetlight ecaresnext26t_32x4d gluon_resnet18_v1b gluon_resnext50_32x4d "
        "seresnext26t_32x4d resnetaa34d resnetblur18 resnetrs50 seresnet18 seresnetaa50d "
        "seresnextaa101d_32x8d wide_resnet50_2"
    ),
    "resnetv2": "resnetv2_18",
    "rexnet": "rexnet_100 rexnetr_100",
    "selecsls": "selecsls42",
    "senet": "legacy_seresnet18",
    "sequencer": "sequencer2d_s",
    "shvit": "shvit_s1",
    "sknet": "skresnet18 skresnext50_32x4d",
    "starnet": "starnet_s050",
    "swiftformer": "swiftformer_xs",
    "swin_transformer": "swin_tiny_patch4_window7_224:224",
    "swin_transformer_v2": "swinv2_tiny_window16_256:256",
    "swin_transformer_v2_cr": "swinv2_cr_tiny_224:224",
    "tiny_vit": "tiny_vit_5m_224",
    "tnt": "tnt_s_legacy_patch16_224:224",
    "tresnet": "tresnet_m",
    "twins": "twins_svt_small",
    "vgg": "vgg11_bn vgg11",
    "visformer": "visformer_tiny:224",
    "vision_transformer": "flexivit_small:240 vit_small_patch16_224:224",
    "vision_transformer_hybrid": "vit_tiny_r_s16_p8_224:224",
    "vision_transformer_relpos": "vit_srelpos_small_patch16_224:224",
    "vision_transformer_sam": "samvit_base_patch16_224",
    "vitamin": "vitamin_small_224:224",
    "volo": "volo_d1_224:224",
    "vovnet": "eca_vovnet39b ese_vovnet19b_slim_dw vovnet39a",
    "xception": "legacy_xception xception",
    "xception_aligned": "xception41p",
    "xcit": "xcit_nano_12_p8_224",
}
"""By timm's module, the smallest network of each family in it, with the side of its input where that is not 64."""
ATTENTION = frozenset((
    "beit", "cait", "convit", "deit", "eva", "hiera", "hieradet_sam2", "mlp_mixer", "naflexvit", "qwen3_vit",
    "swin_transformer", "swin_transformer_v2", "swin_transformer_v2_cr", "tnt", "vision_transformer",
    "vision_transformer_relpos", "vision_transformer_sam",
))  # fmt: skip
"""Modules of timm whose networks hold no convolution but the one that makes patches."""
UNLISTED = frozenset(("deepseek_vit", "gemma4_vit"))
"""Modules of timm whose smallest network is too large to try: pure attention, 167 million parameters and more."""

TORCHVISION = {
    "": (
        "alexnet convnext_tiny densenet121 efficientnet_b0 efficientnet_v2_s googlenet:96 inception_v3:128 "
        "maxvit_t:224 mnasnet0_5 mobilenet_v2 mobilenet_v3_small mobilenet_v3_large regnet_x_400mf "
        "regnet_y_400mf resnet18 resnet50 resnext50_32x4d shufflenet_v2_x0_5 shufflenet_v2_x1_0 squeezenet1_0 "
        "squeezenet1_1 swin_t swin_v2_t vgg11 vgg11_bn vit_b_32:224 wide_resnet50_2"
    ),
    "segmentation": "deeplabv3_mobilenet_v3_large deeplabv3_resnet50 fcn_resnet50 lraspp_mobilenet_v3_large",
    "detection": (
        "fasterrcnn_mobilenet_v3_large_320_fpn fasterrcnn_resnet50_fpn fcos_resnet50_fpn keypointrcnn_resnet50_fpn "
        "maskrcnn_resnet50_fpn retinanet_resnet50_fpn ssd300_vgg16 ssdlite320_mobilenet_v3_large"
    ),
    "video": "mc3_18 r2plus1d_18 r3d_18",
    "quantization": "quantized_mobilenet_v2 quantized_resnet18",
}
"""By torchvision's module, "" for classification; with the side of its input where that is not 64."""

ARCHITECTURES = (
    "Unet", "UnetPlusPlus", "MAnet", "Linknet", "FPN", "PSPNet", "DeepLabV3", "DeepLabV3Plus", "PAN", "UPerNet",
    "Segformer",
)  # fmt: skip
ENCODERS = ("resnet18", "mobilenet_v2", "efficientnet-b0", "tu-regnetx_002", "densenet121", "mit_b0")
UNSUPPORTED = {
    "UnetPlusPlus": ("mit_b0",),
    "Linknet": ("mit_b0",),
    "DeepLabV3": ("densenet121",),
    "DeepLabV3Plus": ("densenet121",),
    "PAN": ("densenet121",),
}
"""Encoders that smp refuses."""


def sized(text: str) -> list[tuple[str, int]]:
    """`"a:96 b"` -> [("a", 96), ("b", 64)]."""
    parts = [word.partition(":") for word in text.split()]
    return [(name, int(side or 64)) for name, _, side in parts]


def _timm(name: str) -> nn.Module:
    import timm

    return timm.create_model(name, pretrained=False, num_classes=10)


def _torchvision(module: str, name: str) -> nn.Module:
    import torchvision

    if not module:
        weights: dict[str, Any] = {"weights": None, "num_classes": 10}
        if name in ("googlenet", "inception_v3"):
            weights["init_weights"] = False
        return torchvision.models.get_model(name, **weights)
    if module == "segmentation":
        return torchvision.models.get_model(name, weights=None, weights_backbone=None, num_classes=5, aux_loss=None)
    if module == "detection":
        sizes = {} if name.startswith("ssd") else {"min_size": 96, "max_size": 128}
        return torchvision.models.get_model(name, weights=None, weights_backbone=None, num_classes=5, **sizes)
    return torchvision.models.get_model(name, weights=None)


def _smp(architecture: str, encoder: str) -> nn.Module:
    import segmentation_models_pytorch as smp

    return getattr(smp, architecture)(encoder, encoder_weights=None, classes=3)


def _dpt() -> nn.Module:
    import segmentation_models_pytorch as smp

    sizes: Any = {"dynamic_img_size": True}
    return smp.DPT("tu-vit_tiny_patch16_224", encoder_weights=None, classes=3, **sizes)


def _clip() -> torch.Tensor:
    return torch.randn(1, 3, 8, 48, 48, generator=torch.Generator().manual_seed(1))


def _members() -> list[Member]:
    found = [Member(f"pattern-{name}", "pattern", entry.make, entry.example) for name, entry in PATTERNS.items()]
    for module, text in TORCHVISION.items():
        for name, side in sized(text):
            example = _clip if module == "video" else image(1, 3, 320 if name.startswith("ssd") else side)
            make = partial(_torchvision, module, name)
            found.append(Member(f"torchvision-{name}", f"torchvision {module or 'classification'}", make, example))
    for module, text in TIMM.items():
        family = f"timm {module}{' (attention)' if module in ATTENTION else ''}"
        for name, side in sized(text):
            found.append(Member(f"timm-{name}", family, partial(_timm, name), image(1, 3, side)))
    for architecture in ARCHITECTURES:
        for encoder in ENCODERS:
            if encoder not in UNSUPPORTED.get(architecture, ()):
                make, example = partial(_smp, architecture, encoder), image(1, 3, 128 if architecture == "PAN" else 64)
                found.append(Member(f"smp-{architecture}-{encoder}", f"smp {architecture}", make, example))
    found.append(Member("smp-DPT-vit_tiny", "smp DPT", _dpt, image(1, 3, 64)))
    return found


MEMBERS: dict[str, Member] = {member.name: member for member in _members()}
