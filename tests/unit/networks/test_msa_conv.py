from __future__ import annotations

import math
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from esp_medsam.networks.modality_controller import WindowToken
from esp_medsam.networks.msa_conv import MSAConv
from tests.support.processes import run_python


def unfolded(
    conv: MSAConv,
    features: Tensor,
    token: WindowToken | None = None,
    offset: tuple[int, int] = (0, 0),
) -> Tensor:
    """The same by the letter: every window is copied out, and each head attends in it."""
    batch, dim, rows, columns = features.shape
    heads, kernel, dilation = conv.heads, conv.kernel_size, conv.dilation
    qkv = conv.qkv(features)
    if conv.depthwise:
        query, key, value = qkv.view(batch, dim, 3, rows, columns).unbind(2)
    else:
        query, key, value = qkv.chunk(3, dim=1)
    reach = [step * (side // 2) for step, side in zip(dilation, kernel, strict=True)]

    def windows(grid: Tensor) -> Tensor:
        """Return ``(B, heads, d, taps, H W)``."""
        far = 99
        top, left = (far + by - half for by, half in zip(offset, reach, strict=True))
        moved = F.pad(grid, (far,) * 4)[
            ..., top : top + rows + 2 * reach[0], left : left + columns + 2 * reach[1]
        ]
        cut = F.unfold(moved, kernel, dilation=dilation)
        return cut.view(batch, heads, -1, kernel[0] * kernel[1], rows * columns)

    of_query = query.reshape(batch, heads, -1, rows * columns) * conv.scale
    logits = (of_query[:, :, :, None] * windows(key)).sum(2)
    if conv.position_bias is not None:
        logits = logits + conv.position_bias[None, :, :, None]
    if conv.mask_outside:
        logits = logits.masked_fill(windows(torch.ones_like(key))[:, :, 0] == 0, -1e4)
    values = windows(value)
    if token is not None:
        own = torch.einsum("bhdn,bhd->bhn", of_query, token.key) + token.bias[:, None, None]
        logits = torch.cat([logits, own[:, :, None]], dim=2)
        extra = token.value[:, :, :, None, None].expand(-1, -1, -1, 1, rows * columns)
        values = torch.cat([values, extra], dim=3)
    mixed = (logits.softmax(2)[:, :, None] * values).sum(3).reshape(batch, dim, rows, columns)
    return mixed[..., :: conv.stride[0], :: conv.stride[1]]


CASES = [
    ({}, (9, 11)),
    ({"heads": 4, "kernel_size": 5}, (7, 6)),
    ({"heads": 2, "kernel_size": (1, 7)}, (5, 13)),
    ({"heads": 2, "kernel_size": (5, 3), "dilation": (2, 3)}, (11, 8)),
    ({"heads": 2, "stride": 2}, (9, 12)),
    ({"heads": 8, "stride": (1, 3), "dilation": 2}, (8, 7)),
    ({"depthwise": True, "kernel_size": (3, 5)}, (6, 9)),
    ({"depthwise": True, "stride": 2, "dilation": 2}, (7, 7)),
    ({"heads": 2, "kernel_size": 7, "position_bias": True}, (3, 4)),
    ({"heads": 2, "mask_outside": False, "kernel_size": 5, "dilation": 3}, (6, 5)),
]


class TestEqualsTheLetter:
    @pytest.mark.parametrize(("options", "size"), CASES)
    def test_forward_and_backward_in_float64(
        self, options: dict[str, object], size: tuple[int, int]
    ) -> None:
        conv = MSAConv(8, **options).double()
        if conv.position_bias is not None:
            torch.nn.init.normal_(conv.position_bias)
        gradients = []
        for compute in (conv, lambda x: unfolded(conv, x)):
            features = torch.randn(2, 8, *size, generator=seeded(), dtype=torch.double)
            features.requires_grad_()
            conv.zero_grad()
            output = compute(features)
            (
                output * torch.randn(output.shape, generator=seeded(), dtype=torch.double)
            ).sum().backward()
            gradients.append([output, features.grad, *(p.grad.clone() for p in conv.parameters())])

        for ours, letter in zip(*gradients, strict=True):
            torch.testing.assert_close(ours, letter)

    def test_with_a_token_of_each_image(self) -> None:
        conv = MSAConv(8, 2)
        features = torch.randn(3, 8, 5, 6)
        token = WindowToken(torch.randn(3, 2, 4), torch.randn(3, 2, 4), torch.randn(3))

        torch.testing.assert_close(conv(features, token), unfolded(conv, features, token))

    def test_the_released_formula_in_its_configuration(self) -> None:
        """softmax over all taps of q(p) . k(p + d t) C^-0.5, those outside with logit 0."""
        conv = MSAConv(4, 1, (3, 5), dilation=(2, 1), mask_outside=False)
        features = torch.randn(1, 4, 5, 6)

        output = conv(features)

        query, key, value = conv.qkv(features)[0].chunk(3)
        for y in range(5):
            for x in range(6):
                taps = [(y + 2 * i, x + j) for i in (-1, 0, 1) for j in (-2, -1, 0, 1, 2)]
                there = [0 <= r < 5 and 0 <= c < 6 for r, c in taps]
                logits = torch.stack(
                    [
                        query[:, y, x] @ key[:, r, c] / math.sqrt(4) if ok else torch.tensor(0.0)
                        for (r, c), ok in zip(taps, there, strict=True)
                    ]
                )
                mixed = sum(
                    a * value[:, r, c]
                    for a, (r, c), ok in zip(logits.softmax(0), taps, there, strict=True)
                    if ok
                )
                torch.testing.assert_close(output[0, :, y, x], mixed)


class TestOffsets:
    @pytest.mark.parametrize("offset", [(2, 0), (-3, 1), (0, -2), (-50, 50)])
    @pytest.mark.parametrize("kernel_size", [1, 3])
    def test_a_kernel_is_moved_and_sees_nothing_beyond_the_edge(
        self, offset: tuple[int, int], kernel_size: int
    ) -> None:
        conv = MSAConv(8, 2, kernel_size, offsets=[offset, offset])
        features = torch.randn(2, 8, 6, 7)

        torch.testing.assert_close(conv(features), unfolded(conv, features, offset=offset))

    def test_each_head_has_its_own(self) -> None:
        offsets = [(0, 0), (2, 0), (0, -1), (0, -1)]
        conv = MSAConv(8, 4, offsets=offsets)
        features = torch.randn(1, 8, 6, 7)

        output = conv(features).view(1, 4, 2, 6, 7)

        for head, offset in enumerate(offsets):
            alone = unfolded(conv, features, offset=offset).view(1, 4, 2, 6, 7)[:, head]
            torch.testing.assert_close(output[:, head], alone)

    def test_where_no_tap_is_inside_nothing_is_gathered(self) -> None:
        conv = MSAConv(8, 2, offsets=[(40, 0), (0, -40)])

        assert not conv(torch.randn(1, 8, 5, 6)).any()


class TestTranslation:
    @pytest.mark.parametrize("stride", [1, 2, 3])
    @pytest.mark.parametrize("depthwise", [False, True])
    def test_by_one_stride_moves_the_output_by_one_cell(self, stride: int, depthwise: bool) -> None:
        conv = MSAConv(8, 2, 3, dilation=2, stride=stride, depthwise=depthwise, position_bias=True)
        image = torch.randn(1, 8, 24, 30)
        moved = torch.roll(image, (stride, stride), dims=(2, 3))

        output, of_moved = conv(image), conv(moved)

        torch.testing.assert_close(of_moved[..., 4:-3, 4:-3], output[..., 3:-4, 3:-4])


class TestHosts:
    @pytest.mark.parametrize(
        "options", [{}, {"depthwise": True}, {"offsets": [(0, 0), (3, 0)]}, {"stride": (2, 1)}]
    )
    def test_scripts(self, options: dict[str, object]) -> None:
        conv, features = MSAConv(8, 2, 3, **options), torch.randn(1, 8, 5, 6, requires_grad=True)
        results = []
        for compute in (conv, torch.jit.script(conv)):
            output = compute(features)
            output.square().sum().backward()
            results.append((output, features.grad))
            features.grad = None

        for direct, scripted in zip(*results, strict=True):
            torch.testing.assert_close(scripted, direct)

    @pytest.mark.slow
    def test_memory_does_not_grow_by_a_copy_for_each_tap(self) -> None:
        """Peak memory of a forward pass of 11 x 11 taps, against the size of its 121 copies."""
        code = (
            "import resource, torch\n"
            "from esp_medsam.networks.msa_conv import MSAConv\n"
            "torch.set_num_threads(1)\n"
            "conv, features = MSAConv(64, 2, 11), torch.randn(1, 64, 256, 256)\n"
            "conv.requires_grad_(True)\n"
            "MSAConv(64, 2, 1)(features)\n"
            "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
            "conv(features)\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
        )
        ran = run_python(code)

        kilobytes = int(ran.stdout) * (1 if sys.platform != "darwin" else 1 / 1024)
        copies = 121 * 64 * 256 * 256 * 4 / 1024
        assert kilobytes < copies / 4


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"heads": 3}, "heads must divide dim; got 3 and 8"),
        ({"heads": 0}, "heads must divide dim; got 0 and 8"),
        ({"kernel_size": 4}, r"kernel_size must be odd.*; got \(4, 4\)"),
        ({"dilation": 0}, "dilation must be at least 1; got 0"),
        ({"stride": (1, 0)}, r"stride must be at least 1; got \(1, 0\)"),
        ({"heads": 2, "offsets": [(1, 1)]}, "offsets must.*one for each of 2 heads; got 1"),
    ],
)
def test_refuses_numbers_that_do_not_fit(options: dict[str, object], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        MSAConv(8, **options)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(5)
