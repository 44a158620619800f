"""Writes the VQ-VAE of modules.py, its quantiser and its loss in PyTorch.

The layers and numbers are the same; it computes channels last, on all processors, with Adam.
Weights are carried over from the Keras model, and the first loss is checked to be the same.
"""

import os

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from oasisvq.nn.losses import blur_matrix, luminance_and_contrast, maps_to_blur

__all__ = ["steps"]


class ResidualBlocks(nn.Module):
    """Adds ReLU, 3x3, ReLU and 1x1 to skip connections; a ReLU comes last."""

    def __init__(self, width, count):
        super().__init__()
        self.wide = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(count))
        self.narrow = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(count))

    def forward(self, x):
        for wide, narrow in zip(self.wide, self.narrow, strict=True):
            x = x + narrow(functional.relu(wide(functional.relu(x))))
        return functional.relu(x)


class Quantizer(nn.Module):
    """Quantises as `modules.VectorQuantizer` does, with a codebook that follows moving averages."""

    def __init__(self, keras_quantizer):
        super().__init__()
        self.settings = keras_quantizer
        for name in ("codebook", "ema_counts", "ema_sums", "ema_error"):
            self.register_buffer(name, torch.tensor(np.array(getattr(keras_quantizer, name))))
        self.updates = 0

    def forward(self, latents):
        batch, _, height, width = latents.shape
        flat = latents.permute(0, 2, 3, 1).reshape(-1, self.codebook.shape[1])  # (N, D)
        with torch.no_grad():
            indices = self.code_indices(flat)
            codes = self.codebook[indices]
        loss = self.settings.commitment_cost * ((codes - flat) ** 2).mean()
        if self.training:
            with torch.no_grad():
                self.learn(flat.detach(), indices)
        passed = flat + (codes - flat).detach()
        return passed.reshape(batch, height, width, -1).permute(0, 3, 1, 2), loss

    def code_indices(self, flat):
        shares = (self.ema_counts / self.ema_counts.sum()).clamp(min=1e-9)
        grown = min((self.updates + 1) / (self.settings.rate_steps + 1), 1.0)
        price = self.settings.rate_weight * grown * self.ema_error * -torch.log2(shares)
        centre = self.codebook.mean(0)
        codebook = self.codebook - centre
        offsets = ((codebook**2).sum(1) + price) / 2
        return torch.addmm(-offsets, flat - centre, codebook.T).argmax(1)

    def learn(self, flat, indices):
        number, decay = len(self.codebook), self.settings.ema_decay
        counts = torch.bincount(indices, minlength=number).to(flat.dtype)
        sums = torch.zeros_like(self.ema_sums).index_add_(0, indices, flat)
        counts = decay * self.ema_counts + (1 - decay) * counts
        sums = decay * self.ema_sums + (1 - decay) * sums
        fair_share = len(flat) / number
        dead = counts < self.settings.revive_below * fair_share
        errors = ((flat - self.codebook[indices]) ** 2).sum(1)
        self.ema_error.copy_(decay * self.ema_error + (1 - decay) * errors.mean())
        cumulative = errors.cumsum(0)
        drawn = torch.searchsorted(cumulative, torch.rand(number) * cumulative[-1])
        newcomers = flat[drawn.clamp(max=len(flat) - 1)]
        self.ema_counts.copy_(torch.where(dead, fair_share, counts))
        self.ema_sums.copy_(torch.where(dead[:, None], newcomers * fair_share, sums))
        used = (self.ema_counts > 1e-5)[:, None]
        means = self.ema_sums / self.ema_counts[:, None].clamp(min=1e-5)
        self.codebook.copy_(torch.where(used, means, self.codebook))
        self.updates += 1


class VQVAE(nn.Module):
    """Takes images to the loss, by the encoder, quantiser and decoder of stride 4."""

    def __init__(self, keras_vqvae):
        super().__init__()
        self.variance, config = keras_vqvae.variance, keras_vqvae.config
        self.ssim_weight, dimension = config.ssim_weight, config.embedding_dim
        width, blocks = config.width, config.residual_blocks
        self.down1 = nn.Conv2d(1, width // 2, 4, stride=2, padding=1)
        self.down2 = nn.Conv2d(width // 2, width, 4, stride=2, padding=1)
        self.mix1 = nn.Conv2d(width, width, 3, padding=1)
        self.blocks1 = ResidualBlocks(width, blocks)
        self.latents = nn.Conv2d(width, dimension, 1)
        self.quantizer = Quantizer(keras_vqvae.quantizer)
        self.mix2 = nn.Conv2d(dimension, width, 3, padding=1)
        self.blocks2 = ResidualBlocks(width, blocks)
        self.up1 = nn.ConvTranspose2d(width, width // 2, 4, stride=2, padding=1)
        self.up2 = nn.ConvTranspose2d(width // 2, 1, 4, stride=2, padding=1)
        height, columns = keras_vqvae.image_shape
        self.register_buffer("down", torch.tensor(np.array(blur_matrix(height))))
        self.register_buffer("across", torch.tensor(np.array(blur_matrix(columns))))
        self._carry_over(keras_vqvae)

    def _carry_over(self, keras_vqvae):
        """Copies the weights of the Keras layers, which come in the same order."""
        encoder = [self.down1, self.down2, self.mix1, *self._in_order(self.blocks1), self.latents]
        decoder = [self.mix2, *self._in_order(self.blocks2), self.up1, self.up2]
        for mine, model in ((encoder, keras_vqvae.encoder), (decoder, keras_vqvae.decoder)):
            theirs = [layer for layer in model.layers if layer.weights]
            for layer, other in zip(mine, theirs, strict=True):
                kernel, bias = other.get_weights()
                layer.weight.data = torch.tensor(kernel.transpose(3, 2, 0, 1)).contiguous()
                layer.bias.data = torch.tensor(bias)

    def _in_order(self, blocks):
        pairs = zip(blocks.wide, blocks.narrow, strict=True)
        return [layer for pair in pairs for layer in pair]

    def forward(self, images):
        x = functional.relu(self.down2(functional.relu(self.down1(images))))
        latents = self.latents(self.blocks1(self.mix1(x)))
        codes, loss = self.quantizer(latents)
        x = functional.relu(self.up1(self.blocks2(self.mix2(codes))))
        reconstructions = self.up2(x)
        loss = loss + ((reconstructions - images) ** 2).mean() / self.variance
        ssim = self.ssim(images[:, 0], reconstructions[:, 0].clamp(0, 1))
        return loss + self.ssim_weight * (1 - ssim).mean()

    def ssim(self, x, y):
        """Returns the SSIM of slices `(B, H, W)`, as `oasisvq.nn.losses.ssim`."""
        blurred = self.down @ (torch.stack(maps_to_blur(x, y), 1) @ self.across.T)
        luminance, contrast = luminance_and_contrast(*blurred.unbind(1))
        return (luminance * contrast).mean((1, 2))


def steps(keras_vqvae, images, count):
    """Returns functions that take so many training steps on a batch: as written, and compiled.

    Args:
        keras_vqvae: `VQVAETrainer` of the default hyperparameters.
        images: Float32 array `(B, H, W, 1)` in [0, 1].
        count: Integer.
    """
    torch.set_num_threads(os.cpu_count())
    batch = torch.tensor(images).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
    expected = float(np.mean(keras_vqvae.slice_losses(images, training=False)[0]["loss"]))
    functions = {}
    for name in ("as written", "compiled"):
        model = VQVAE(keras_vqvae).to(memory_format=torch.channels_last)
        found = float(model.eval()(batch).detach())
        if abs(found - expected) > 1e-4 * expected:
            raise AssertionError(f"PyTorch's loss is {found}, the Keras model's {expected}")
        network = torch.compile(model) if name == "compiled" else model
        step = stepping(model.train(), network, batch, count)
        try:
            step()
        except Exception as error:  # no compiler on the machine, mostly
            print(f"PyTorch, {name}: left out ({str(error).splitlines()[0][:100]})")
            continue
        functions[name] = step
    return functions


def stepping(model, network, batch, count):
    """Returns a function that trains for so many steps."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, betas=(0.9, 0.99))

    def run():
        for _ in range(count):
            optimizer.zero_grad(set_to_none=True)
            loss = network(batch)
            loss.backward()
            optimizer.step()
        return loss.item()

    return run
