"""Video and audio networks by name, their weights, and published checkpoints."""

from backbones.networks.registry import NetworkSpec

__all__ = ["NetworkSpec"]
