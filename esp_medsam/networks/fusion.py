"""Rewrite a network for inference with one modality: the same function in fewer operations.

Batch norms are folded into their convolutions, layer norms into the linear layers that follow, an
expert is merged with the feed-forward part it runs beside, and the other modalities' controllers
are left out. Outputs agree with the original's to rounding.
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esp_medsam.networks.esp_medsam import ESPMedSAM
from esp_medsam.networks.high_resolution import Fusion
from esp_medsam.networks.image_encoder import EncoderFeatures, TinyViTImageEncoder
from esp_medsam.networks.layers import ConvNorm, FeedForward, LayerNorm2d
from esp_medsam.networks.modality_controller import ControllerBank, ModalityController, Route
from esp_medsam.networks.tic import TiCImageEncoder
from esp_medsam.networks.tiny_vit import TinyViTBlock, WindowAttention


def can_be_fused(network: ESPMedSAM) -> bool:
    """Whether it is known how to rewrite a network's encoder."""
    return isinstance(network.image_encoder, TinyViTImageEncoder | TiCImageEncoder)


def fuse(network: ESPMedSAM, modality: str) -> ESPMedSAM:
    """Return a network for inference that holds one modality of another.

    Args:
        network: The network, in evaluation mode. It is not changed, and what is not rewritten is
            shared with it.
        modality: Name of the modality.

    Returns:
        A network with the same outputs for this modality, to rounding, without gradients.

    Raises:
        ValueError: If the network does not have the modality, is in training mode, or has another
            encoder than the two of this package.
    """
    if modality not in network.modalities or network.training or not can_be_fused(network):
        msg = f"network must be in evaluation mode, have {modality}, and a TinyViT or TiC encoder."
        raise ValueError(msg)
    place = network.places[modality]
    with torch.no_grad():
        single = _fused_module(network, place)
    assert isinstance(single, ESPMedSAM), "it was one"
    single.image_encoder = ChannelsLast(single.image_encoder)
    index = network.modalities[modality]
    position_table = torch.ones_like(network.position_table[: index + 1])
    position_table[index] = 0
    single.position_table = position_table
    single.query_table = network.query_table[place : place + 1]
    single.modalities, single.places = {modality: index}, {modality: 0}
    single.targets = {modality: network.targets[modality]}
    single.default_modality = modality
    return single.eval()


def _fused_module(module: nn.Module, place: int) -> nn.Module:
    """Return a rewritten module for the modality of a place, sharing what stays the same."""
    if isinstance(module, ConvNorm):
        return fused_convolution(module)
    if isinstance(module, LayerNorm2d):
        return FusedLayerNorm2d(module)
    if isinstance(module, nn.Conv2d):
        return _convolution(module, module.weight, module.bias)
    if isinstance(module, TinyViTBlock):
        return FusedBlock(module, place)
    if isinstance(module, ControllerBank):
        return _alone(module, place)
    if isinstance(module, Fusion):
        return InPlaceFusion(module, place)
    other = _shallow(module)
    for name, child in module.named_children():
        setattr(other, name, _fused_module(child, place))
    return other


def _shallow(module: nn.Module) -> nn.Module:
    """Return a module with the same values and children, whose children can be replaced."""
    other = copy.copy(module)
    for name in ("_parameters", "_buffers", "_modules"):
        other.__dict__[name] = dict(module.__dict__[name])
    for name, parameter in module._parameters.items():  # buffers stay as they are
        if parameter is not None:
            other.register_parameter(name, nn.Parameter(parameter.detach(), requires_grad=False))
    return other


def _alone(bank: ControllerBank, place: int) -> nn.Module:
    """Return a bank with the controller of one place."""
    other = _shallow(bank)
    name = list(bank.controllers)[place]
    other.controllers = nn.ModuleDict({name: _fused_module(bank.controllers[name], place)})
    return other


def fused_convolution(module: ConvNorm) -> nn.Module:
    """Return a convolution with a bias in place of one and its batch normalization."""
    conv, norm = module.conv, module.norm
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None, "it is tracked"
    assert variance is not None, "it is tracked"
    scale = _exact(norm.weight) / (_exact(variance) + norm.eps).sqrt()
    weight = _exact(conv.weight) * scale[:, None, None, None]
    return _convolution(conv, weight, _exact(norm.bias) - _exact(mean) * scale)


def _convolution(conv: nn.Conv2d, weight: Tensor, bias: Tensor | None) -> nn.Module:
    """Return a convolution with another weight and bias; one of single positions is a linear layer.

    For a single thread, torch computes the latter by a slow method.
    """
    alone = conv.kernel_size == conv.stride == (1, 1) and conv.groups == 1
    fused = Pointwise() if alone else _shallow(conv)
    weight = weight.flatten(1) if alone else weight
    fused.register_parameter("weight", _parameter(weight, conv.weight))
    fused.register_parameter("bias", None if bias is None else _parameter(bias, conv.weight))
    return fused


def _fused_linear(norm: nn.LayerNorm, linear: nn.Linear) -> tuple[Tensor, Tensor]:
    """Return float64 weight and bias of a linear layer that takes what is only normalized."""
    weight = _exact(linear.weight)
    return weight * _exact(norm.weight), _exact(linear.bias) + weight @ _exact(norm.bias)


def _exact(value: Tensor) -> Tensor:
    """Return a tensor as float64, on the CPU, since not every device has it."""
    return value.cpu().double()


def _parameter(value: Tensor, like: Tensor) -> nn.Parameter:
    fused = value.to(like.device, like.dtype)
    if fused.ndim == 4:
        fused = fused.contiguous(memory_format=torch.channels_last)
    return nn.Parameter(fused, requires_grad=False)


class ChannelsLast(nn.Module):
    """An image encoder whose features lie channel by channel at each position.

    So neither convolutions nor linear layers need copies to pass features to each other.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, image: Tensor, batch_route: Route) -> EncoderFeatures:
        """Encode ``image``, ``(B, 3, H, W)``."""
        features: EncoderFeatures = self.encoder(
            image.contiguous(memory_format=torch.channels_last), batch_route
        )
        return features


class Pointwise(nn.Module):
    """A linear layer at each position."""

    weight: Tensor
    bias: Tensor | None

    def forward(self, features: Tensor) -> Tensor:
        """Return the layer's output; ``features`` and it are ``(B, C, H, W)``."""
        return F.linear(features.permute(0, 2, 3, 1), self.weight, self.bias).permute(0, 3, 1, 2)


class FusedLayerNorm2d(nn.Module):
    """Normalization of each position over its channels, in one operation."""

    def __init__(self, norm: LayerNorm2d) -> None:
        super().__init__()
        self.weight, self.bias = (_parameter(one, one) for one in (norm.weight, norm.bias))
        self.eps = norm.eps

    def forward(self, features: Tensor) -> Tensor:
        """Return the normalized features; ``features`` and they are ``(B, C, H, W)``."""
        width = [features.shape[1]]
        positions = features.permute(0, 2, 3, 1)
        normalized = F.layer_norm(positions, width, self.weight, self.bias, self.eps)
        return normalized.permute(0, 3, 1, 2)


class InPlaceFusion(nn.Module):
    """Fusion of coarse and fine features that writes over what it no longer needs."""

    def __init__(self, fusion: Fusion, place: int) -> None:
        super().__init__()
        self.coarse = _fused_module(fusion.coarse, place)
        self.fine = _fused_module(fusion.fine, place)
        self.mix = _fused_module(fusion.mix, place)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """Return features on the grid of ``fine``; see :class:`Fusion`."""
        own: Tensor = self.fine(fine)
        raised = F.interpolate(
            self.coarse(coarse), size=own.shape[-2:], mode="bilinear", align_corners=False
        )
        mixed: Tensor = self.mix(own.add_(raised).relu_())
        return mixed.relu_()


class FusedFeedForward(nn.Module):
    """The feed-forward part of a block and a modality's expert, as one network."""

    def __init__(self, mlp: FeedForward, expert: FeedForward) -> None:
        super().__init__()
        parts = [_fused_linear(each.norm, each.fc1) for each in (mlp, expert)]
        first, second = mlp.fc1.weight, (mlp.fc2, expert.fc2)
        self.width = mlp.norm.normalized_shape
        self.eps = mlp.norm.eps
        self.fc1_weight = _parameter(torch.cat([weight for weight, _ in parts]), first)
        self.fc1_bias = _parameter(torch.cat([bias for _, bias in parts]), first)
        self.fc2_weight = _parameter(torch.cat([each.weight for each in second], dim=1), first)
        self.fc2_bias = _parameter(_exact(second[0].bias) + _exact(second[1].bias), first)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the update of ``tokens``, ``(B, N, C)``, without the residual."""
        hidden = F.linear(
            F.layer_norm(tokens, self.width, eps=self.eps), self.fc1_weight, self.fc1_bias
        )
        return F.linear(F.gelu(hidden), self.fc2_weight, self.fc2_bias)


class FusedWindowAttention(nn.Module):
    """Window attention whose token is one more key and value, known beforehand."""

    def __init__(self, attention: WindowAttention, controller: ModalityController) -> None:
        super().__init__()
        weight, bias = _fused_linear(attention.norm, attention.qkv)
        self.heads = attention.heads
        self.width, self.eps = attention.norm.normalized_shape, attention.norm.eps
        dim = weight.shape[1]
        # From (heads, 3, d) to (3, heads, d).
        weight = weight.view(self.heads, 3, -1, dim).transpose(0, 1).reshape(3 * dim, dim)
        bias = bias.view(self.heads, 3, -1).transpose(0, 1).reshape(3 * dim)
        like = attention.qkv.weight
        self.qkv_weight, self.qkv_bias = _parameter(weight, like), _parameter(bias, like)
        self.proj = _shallow(attention.proj)
        token = controller.token()
        self.key = _parameter(token.key[None, :, None], like)
        self.value = _parameter(token.value[None, :, None], like)
        place = attention.attention_biases[:, attention.bias_index]
        own = token.bias[:, None, None].expand(self.heads, place.shape[1], 1)
        self.bias = _parameter(torch.cat([place, own], dim=-1), like)

    def forward(self, windows: Tensor) -> Tensor:
        """Return the attended windows, ``(windows, N, C)``; they are normalized, without affine."""
        count, N, C = windows.shape
        qkv = F.linear(windows, self.qkv_weight, self.qkv_bias)
        query, key, value = qkv.view(count, N, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        key = torch.cat([key, self.key.expand(count, -1, -1, -1)], dim=2)
        value = torch.cat([value, self.value.expand(count, -1, -1, -1)], dim=2)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=self.bias[None])
        attended: Tensor = self.proj(mixed.transpose(1, 2).reshape(count, N, C))
        return attended


class FusedBlock(nn.Module):
    """A TinyViT block of one modality.

    Args:
        block: The block.
        place: Place of the modality's controller.
    """

    def __init__(self, block: TinyViTBlock, place: int) -> None:
        super().__init__()
        controller = list(block.bank.controllers.values())[place]
        assert isinstance(controller, ModalityController), "a bank holds these"
        self.window = block.window
        self.attention = FusedWindowAttention(block.attention, controller)
        self.local_conv = fused_convolution(block.local_conv)
        self.mlp = FusedFeedForward(block.mlp, controller.expert)

    def attend(self, grid: Tensor) -> Tensor:
        """Return the windowed attention of ``grid``, ``(B, H, W, C)``, without the residual."""
        B, H, W, C = grid.shape
        window, attention = self.window, self.attention
        normalized = F.layer_norm(grid, attention.width, eps=attention.eps)
        pad_bottom, pad_right = -H % window, -W % window
        if pad_bottom > 0 or pad_right > 0:  # normalized, zeros stay zeros
            normalized = F.pad(normalized, (0, 0, 0, pad_right, 0, pad_bottom))
        rows, columns = (H + pad_bottom) // window, (W + pad_right) // window
        windows = normalized.view(B, rows, window, columns, window, C).transpose(2, 3)
        attended = attention(windows.reshape(B * rows * columns, window * window, C))
        attended = attended.view(B, rows, columns, window, window, C).transpose(2, 3)
        whole: Tensor = attended.reshape(B, H + pad_bottom, W + pad_right, C)
        return whole[:, :H, :W]

    def forward(self, features: Tensor, batch_route: Route) -> Tensor:
        """Return the block's output; ``features`` and it are ``(B, C, H, W)``."""
        del batch_route
        grid = features.permute(0, 2, 3, 1)
        features = self.local_conv((grid + self.attend(grid)).permute(0, 3, 1, 2))
        grid = features.permute(0, 2, 3, 1)
        updated: Tensor = (grid + self.mlp(grid)).permute(0, 3, 1, 2)
        return updated
