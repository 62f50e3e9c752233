"""Pretrained weights that libraries fetch: whether they are here, and what to put where if they cannot be fetched.

Without this, a library tries the network again and again for a minute before it gives up.
"""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlparse

import torch

from bench.errors import RequestError, reason_of

SECONDS = 5.0
"""How long an answer of a server is waited for."""
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")
"""Names that weights have in a repository of the hub, in the order in which libraries ask for them."""


def require_torchvision_weights(name: str) -> None:
    """Refuse a network of torchvision whose default weights are neither here nor to be had.

    Raises:
        RequestError: which file is wanted, from where, and where to put it.
    """
    from torchvision import models

    _require_file(f"torchvision's weights of {name}", models.get_model_weights(name).DEFAULT.url)  # pyright: ignore


def require_timm_weights(name: str) -> None:
    """The same of a network of timm, with or without the tag of its weights; the network must have some."""
    import timm

    config = timm.models.get_pretrained_cfg(name)
    what = f"timm's weights of {name}"
    if config is not None and config.hf_hub_id:
        named = (config.hf_hub_filename,) if config.hf_hub_filename else _HUB_FILES
        repository, _, revision = config.hf_hub_id.partition("@")
        _require_in_hub(what, repository, named, revision or None)
    elif config is not None and config.url:
        _require_file(what, str(config.url))


def require_smp_weights(encoder: str, weights: str) -> None:
    """The same of an encoder that segmentation-models-pytorch has itself.

    Raises:
        RequestError: the encoder has no weights of that name as well.
    """
    import segmentation_models_pytorch as smp

    settings = smp.encoders.encoders[encoder]["pretrained_settings"]
    if weights not in settings:
        raise RequestError(
            f"encoder_weights = {weights!r} is not allowed for {encoder}; available: {', '.join(settings) or 'none'}"
        )
    named = settings[weights]
    _require_in_hub(f"the weights {weights} of {encoder}", named["repo_id"], _HUB_FILES[:1], named.get("revision"))


def _require_file(what: str, url: str) -> None:
    """A file that torch keeps below its hub's folder."""
    target = Path(torch.hub.get_dir(), "checkpoints", Path(urlparse(url).path).name)
    reason = "" if target.is_file() else _unreachable(url)
    if reason:
        raise RequestError(f"{what} cannot be fetched ({reason}); get {url} on another machine and put it to {target}")


def _require_in_hub(what: str, repository: str, names: tuple[str, ...], revision: str | None) -> None:
    """A file of a repository of the hub, which lies in the hub's cache."""
    from huggingface_hub import constants, try_to_load_from_cache

    if any(isinstance(try_to_load_from_cache(repository, name, revision=revision), str) for name in names):
        return
    reason = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else _unreachable(f"{constants.ENDPOINT}/{repository}")
    if reason:
        at = f" --revision {revision}" if revision else ""
        folder = f"models--{repository.replace('/', '--')}"
        raise RequestError(
            f"{what} cannot be fetched ({reason}); wanted is {names[0]} of {constants.ENDPOINT}/{repository}: run "
            f"`hf download {repository}{at}` on another machine, and copy {folder} from its "
            f"~/.cache/huggingface/hub to {constants.HF_HUB_CACHE}"
        )


def _unreachable(url: str) -> str:
    """Why nothing answers there; "" where something does, whatever it says."""
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=SECONDS).close()
    except urllib.error.HTTPError:
        return ""
    except (OSError, ValueError) as error:
        return reason_of(error.reason if isinstance(error, urllib.error.URLError) and error.reason else error)  # pyright: ignore
    return ""
