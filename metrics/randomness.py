"""Random numbers that belong to a sample, not to a batch.

A `Draws` is a stream of numbers for each sample, determined by a seed, a purpose and the sample's identity alone. So
batch size, order, device and number of workers do not change a result, and no global generator is read or moved. The
numbers are those of SplitMix64 (Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators"),
computed as tensors.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import torch
from torch import Tensor


def _signed(value: int) -> int:
    """A 64-bit pattern as the int64 that torch can hold."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >= 1 << 63 else value


_GOLDEN, _M1, _M2 = map(_signed, (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def _shift(z: Tensor, bits: int) -> Tensor:
    """Logical right shift (torch's is arithmetic)."""
    return (z >> bits).bitwise_and_((1 << (64 - bits)) - 1)


def _mix(z: Tensor) -> Tensor:
    """The finaliser of SplitMix64, in place: new memory would cost more than the arithmetic."""
    for bits, factor in ((30, _M1), (27, _M2)):
        z.bitwise_xor_(_shift(z, bits)).mul_(factor)
    return z.bitwise_xor_(_shift(z, 31))


@dataclass(frozen=True)
class Draws:
    """Random numbers for the samples `ids` (int64, shape (n,)), the same for a sample in whatever batch it comes.

    `fork` gives an independent stream for another purpose; indexing gives the same stream for some of the samples.
    """

    seed: int
    ids: Tensor

    def fork(self, *purpose: str | int) -> Draws:
        """An independent stream, named: `draws.fork("restart", 2)`."""
        text = repr((self.seed, *purpose)).encode()
        return Draws(int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big"), self.ids)

    def __getitem__(self, index: Tensor | slice) -> Draws:
        return Draws(self.seed, self.ids[index])

    def uniform(self, *shape: int) -> Tensor:
        """Uniform on (0, 1), float32, shape (n, *shape)."""
        # 23 bits and a half fit a float32 exactly: neither 0 (log(u) is finite) nor 1 can come out
        words = _shift(self._bits(math.prod(shape)), 41)
        return words.float().add_(0.5).mul_(2.0**-23).view(len(self.ids), *shape)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal, float32, shape (n, *shape) (Box and Muller 1958).

        Of each 64 random bits one half is the radius and the other the angle of two numbers; none is beyond 6.8.
        """
        count = math.prod(shape)
        words = self._bits((count + 1) // 2)
        # in float64, so that what machines differ in, the last bit of a logarithm or a sine, is rounded away
        u = _shift(words, 32).double().add_(0.5).mul_(2.0**-32)
        radius = u.log_().mul_(-2).sqrt_()
        angle = words.bitwise_and_((1 << 32) - 1).double().mul_(2 * math.pi * 2.0**-32)
        pairs = torch.stack([(radius * angle.cos()).float(), (radius * angle.sin()).float()], 2)
        return pairs.flatten(1)[:, :count].reshape(len(self.ids), *shape)

    def _bits(self, count: int) -> Tensor:
        """64 random bits as int64, (n, count); the caller may overwrite them."""
        start = _mix(self.ids * _GOLDEN + _mix(torch.full_like(self.ids, _signed(self.seed))))
        steps = torch.arange(1, count + 1, device=self.ids.device) * _GOLDEN
        return _mix(start[:, None] + steps)
