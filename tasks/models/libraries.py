"""Networks of torchvision and timm by name, and what is wrong with a name that they do not have."""

from __future__ import annotations

from typing import Any

from torch import nn

from bench.errors import RequestError, did_you_mean, reason_of
from tasks.models.fetched import require_timm_weights, require_torchvision_weights

_AUXILIARY = ("googlenet", "inception_v3")
"""Networks that have auxiliary heads for training, and can be built without."""


def torchvision_classifier(name: str, classes: int, *, pretrained: bool) -> nn.Module:
    """A classification network of torchvision, without auxiliary heads. Input [N, 3, H, W], output [N, classes].

    Raises:
        RequestError: torchvision has no such network for classification, or cannot build it or fetch its weights.
    """
    from torchvision import models

    classifiers = models.list_models(module=models)
    if name not in classifiers:
        if name in models.list_models():
            kind = models.get_model_builder(name).__module__.split(".")[2].replace("_", " ")
            raise RequestError(
                f"torchvision's {name!r} is no network that can be trained to classify images (it is one of its "
                f"{kind} networks); use one of torchvision.models.list_models(module=torchvision.models)"
            )
        near = did_you_mean(name, classifiers)
        raise RequestError(f"torchvision has no network {name!r} for classification{near or _all(classifiers)}")
    if pretrained:
        require_torchvision_weights(name)
    options: dict[str, Any] = {"aux_logits": False} if name in _AUXILIARY else {}
    try:
        if not pretrained:
            options |= {"init_weights": True} if name in _AUXILIARY else {}
            return models.get_model(name, weights=None, num_classes=classes, **options)
        return _with_head(models.get_model(name, weights="DEFAULT", **options), classes)
    except Exception as error:  # whatever a library raises, from a failed download to a missing package
        raise _failed("torchvision", name, error, pretrained=pretrained) from error


def timm_classifier(name: str, classes: int, channels: int, *, pretrained: bool) -> nn.Module:
    """A network of timm. Input [N, channels, H, W], output [N, classes].

    Args:
        name: as timm writes it, with or without the tag of pretrained weights (`resnet18.a1_in1k`).

    Raises:
        RequestError: timm has no such network or tag, no weights for it, or cannot build it or fetch its weights.
    """
    import timm

    require_timm_name(name, pretrained=pretrained)
    if pretrained:
        require_timm_weights(name)
    try:
        return timm.create_model(name, pretrained=pretrained, num_classes=classes, in_chans=channels)
    except Exception as error:  # whatever a library raises, from a failed download to a missing package
        raise _failed("timm", name, error, pretrained=pretrained) from error


def require_timm_name(name: str, *, pretrained: bool) -> None:
    """Refuse a name, with or without a tag, that timm does not know, or has no weights for where they are asked for.

    Raises:
        RequestError: naming those that are like it, or the tags that there are.
    """
    import timm

    architecture, dot, tag = name.partition(".")
    known = timm.list_models()
    if architecture not in known:
        near = did_you_mean(architecture, known) or "; timm.list_models() lists what it has"
        raise RequestError(f"timm has no network {architecture!r}{near}")
    tags = sorted(full.partition(".")[2] for full in timm.models.get_arch_pretrained_cfgs(architecture))
    tags = [known_tag for known_tag in tags if known_tag]
    if dot and tag not in tags:
        raise RequestError(
            f"timm's {architecture!r} has no weights with the tag {tag!r}; available: {', '.join(tags) or 'none'}"
        )
    if pretrained and not timm.models.is_model_pretrained(name):
        raise RequestError(
            f"timm has no pretrained weights for {name!r}; timm.list_models(pretrained=True) lists the networks that "
            "have some, or use pretrained = false"
        )


def _failed(library: str, name: str, error: Exception, *, pretrained: bool) -> RequestError:
    weights = " with its pretrained weights" if pretrained else ""
    return RequestError(f"{library} cannot build {name!r}{weights}: {reason_of(error)}")


def _all(names: list[str]) -> str:
    return f"; available: {', '.join(names)}"


def _with_head(model: nn.Module, classes: int) -> nn.Module:
    """Replace the last linear or 1×1 convolutional layer by a fresh one for `classes`."""
    name, last = [(n, m) for n, m in model.named_modules() if isinstance(m, (nn.Linear, nn.Conv2d))][-1]
    if isinstance(last, nn.Linear):
        fresh: nn.Module = nn.Linear(last.in_features, classes)
    else:
        fresh = nn.Conv2d(last.in_channels, classes, last.kernel_size)  # pyright: ignore[reportArgumentType]
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, fresh)
    return model
