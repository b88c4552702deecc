"""Files whose bytes depend on their contents alone: zip archives without times, .npy arrays, PNG
pictures."""

from __future__ import annotations

import ctypes
import io
import struct
import sys
import zipfile
import zlib

import torch
from torch import Tensor

_DTYPES = {torch.float32: "f4", torch.float64: "f8", torch.float16: "f2", torch.int64: "i8"}
_BEGIN = (1980, 1, 1, 0, 0, 0)  # a zip's earliest time


def packed(members: dict[str, bytes]) -> bytes:
    """A zip archive of the members, each with its CRC-32, uncompressed as numpy.savez leaves it."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name, _BEGIN)
            info.create_system, info.external_attr = 3, 0o644 << 16
            archive.writestr(info, content)
    return file.getvalue()


def unpacked(content: bytes) -> dict[str, bytes]:
    """The members of an archive. Raises zipfile.BadZipFile if the archive is cut short or a
    member's CRC-32 does not match its bytes."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def npy(values: Tensor) -> bytes:
    """The array as numpy.save writes it (format 1.0). numpy has no bfloat16, so it becomes float32,
    which holds it exactly."""
    if values.dtype is torch.bfloat16:
        values = values.float()
    order = "<" if sys.byteorder == "little" else ">"
    header = (
        f"{{'descr': '{order}{_DTYPES[values.dtype]}', 'fortran_order': False, 'shape':"
        f" {tuple(values.shape)!r}, }}"
    )
    length = len(header) + 1
    header += " " * (-(10 + length) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + raw(values)


def raw(values: Tensor) -> bytes:
    """The bytes of a tensor's elements, in order."""
    values = values.detach().cpu().resolve_neg().contiguous()
    return (
        ctypes.string_at(values.data_ptr(), values.numel() * values.element_size()) if values.numel() else b""
    )


def png(image: Tensor) -> bytes:
    """A picture (1 or 3, H, W) of numbers from -1, black, to 1, white. Numbers beyond that range
    are clipped, as EDM's generate.py does."""
    channels, height, width = image.shape
    pixels = (
        (image.double() * 127.5 + 128)
        .clamp(0, 255)
        .to(torch.uint8)
        .permute(1, 2, 0)
        .reshape(height, width * channels)
    )
    rows = torch.cat((pixels.new_zeros(height, 1), pixels), 1)  # each row begins with its filter, 0 for none
    header = struct.pack(">IIBBBBB", width, height, 8, 0 if channels == 1 else 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(raw(rows), 6)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
