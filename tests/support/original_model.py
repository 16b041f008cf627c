"""The published networks and heads, written down anew from their description, module by module, as an oracle."""

from collections import OrderedDict

import torch
import torchvision
from torch import nn

from backbones.networks.small import NanoAudio, NanoVideo, TinyAudio, TinyVideo


class Wrapped(nn.Module):
    def __init__(self, base):
        super().__init__()
        self.base = base

    def forward(self, x):
        return self.base(x)


class Column(nn.Module):
    def forward(self, x):
        return x[:, :, None]


def mlp_head(n_features, n_clusters, hidden=512, dropout=0.3):
    head = nn.Module()
    head.block_forward = nn.Sequential(
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(n_features, hidden, bias=False),
        Column(),  # 3: batch norm over a trailing axis of one
        nn.BatchNorm1d(hidden),
        nn.Flatten(),
        nn.ReLU(inplace=True),
        nn.Dropout(dropout),
        nn.Linear(hidden, n_clusters, bias=True),
    )
    head.forward = head.block_forward.forward
    return head


def video_network(name="r2plus1d_18"):
    if name == "tiny":
        return Wrapped(nn.Sequential(*TinyVideo(), nn.Flatten()))
    if name == "nano":
        return Wrapped(NanoVideo())
    network = getattr(torchvision.models.video, name)(weights=None)
    network.fc = nn.Identity()
    return Wrapped(network)


def audio_network(name="resnet9"):
    if name == "tiny":
        return Wrapped(nn.Sequential(*TinyAudio(), nn.Flatten()))
    if name == "nano":
        return Wrapped(NanoAudio())
    resnet = torchvision.models.resnet
    layers = {"resnet9": [1, 1, 1, 1], "resnet18": [2, 2, 2, 2], "resnet34": [3, 4, 6, 3], "resnet50": [3, 4, 6, 3]}
    network = resnet.ResNet(resnet.Bottleneck if name == "resnet50" else resnet.BasicBlock, layers[name])
    network.conv1 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
    network.fc = nn.Identity()
    return Wrapped(network)


class OriginalModel(nn.Module):
    def __init__(self, n_clusters, n_heads, mlp=True, video="r2plus1d_18", audio="resnet9", hidden=512):
        super().__init__()
        self.video_network = video_network(video)
        self.audio_network = audio_network(audio)
        self.n_heads = n_heads
        widths = {
            m: {"nano": 192, "tiny": 192, "resnet50": 2048}.get(name, 512) for m, name in (("v", video), ("a", audio))
        }
        for h in range(n_heads):
            for m in "va":
                head = mlp_head(widths[m], n_clusters, hidden) if mlp else nn.Linear(widths[m], n_clusters)
                setattr(self, f"mlp_{m}{h}" if n_heads > 1 else f"mlp_{m}", head)

    def outputs(self, pictures, sounds):
        """Return features and the logits of all heads, per modality."""
        results = {}
        for m, modality, x in (("v", "video", pictures), ("a", "audio", sounds)):
            features = getattr(self, f"{modality}_network")(x)
            numbers = range(self.n_heads) if self.n_heads > 1 else [""]
            results[modality] = features, [getattr(self, f"mlp_{m}{h}")(features) for h in numbers]
        return results


@torch.no_grad()
def learnt_model(*args, **kwargs):
    """Return a model whose weights and statistics are all different, so that a mistake in any of them shows."""
    with torch.device("meta"):  # its initial weights would take most of the time
        model = OriginalModel(*args, **kwargs)
    model = model.to_empty(device="cpu")
    for name, value in model.state_dict().items():
        if name.endswith("num_batches_tracked"):
            value.fill_(7)
        elif value.dim() == 1:
            value.uniform_(0.5, 1.5)
        else:
            spread = (6 / value[0].numel()) ** 0.5
            value.uniform_(-spread, spread)
    return model


def checkpoint(model, *, epoch=200, dist=None, selflabels=None, optimizer=None, module=False):
    """Return what the published code saves; ``module.`` as when it learnt on several GPUs."""
    weights = OrderedDict((f"module.{name}" if module else name, v) for name, v in model.state_dict().items())
    content = {"epoch": epoch, "dist": dist, "model": weights}
    if optimizer is not None:
        content["optimizer"] = optimizer.state_dict()
    if selflabels is not None:
        content["selflabels"] = selflabels
    return content
