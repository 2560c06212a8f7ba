"""Arrays as .npz bytes, and back without a copy: each array is used where it lies in the file's bytes.

`numpy.load` reads such a file too; numpy itself writes arrays where they happen to come, which most routines copy before they
touch them, and reads them through three buffers.
"""

from __future__ import annotations

import io
import struct
import zipfile

import numpy as np

ALIGNED = 64  # bytes: where an array of an .npz begins, so that it can be used as it lies there
PADDING = 0xD935  # id of the extra field of a zip's member that moves it there, as Android's zipalign uses it
_HEADER = struct.Struct(
    "<4s5H3L2H"
)  # of a zip's member; its last two numbers are the lengths of name and extra field
_EXTRA = struct.Struct("<2H")


def pack_arrays(arrays: dict[str, np.ndarray]) -> bytes:
    """.npz bytes, uncompressed, as `numpy.load` reads them. Raises TypeError for an array of objects, which only a pickle could hold."""
    objects = [name for name, array in arrays.items() if array.dtype.hasobject]
    if objects:
        raise TypeError(f"arrays of Python objects cannot be stored: {', '.join(objects)}")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as stored:
        for name, array in arrays.items():
            member = zipfile.ZipInfo(f"{name}.npy")
            begins = buffer.tell() + _HEADER.size + len(member.filename) + _EXTRA.size
            padding = -begins % ALIGNED
            member.extra = _EXTRA.pack(PADDING, padding) + bytes(padding)
            with io.BytesIO() as content:
                np.lib.format.write_array(content, np.asarray(array), allow_pickle=False)
                stored.writestr(member, content.getbuffer())
    return buffer.getvalue()


def unpack_arrays(content: np.ndarray | bytes) -> dict[str, np.ndarray]:
    """The arrays where they lie in `content`, which they keep in memory; a copy of one that does not lie as the processor wants it.

    Raises ValueError for one of Python objects, and for a file that is no .npz.
    """
    found = {}
    held = np.frombuffer(content, np.uint8)
    try:
        with zipfile.ZipFile(_Bytes(held)) as stored:
            for member in stored.infolist():
                if member.compress_type != zipfile.ZIP_STORED:
                    raise ValueError(f"{member.filename} is compressed")
                found[member.filename.removesuffix(".npy")] = _array(held, member)
    except (zipfile.BadZipFile, struct.error) as error:
        raise ValueError(f"no .npz: {error}") from None
    return found


def _array(content: np.ndarray, member: zipfile.ZipInfo) -> np.ndarray:
    *_, name, extra = _HEADER.unpack_from(content, member.header_offset)
    start = member.header_offset + _HEADER.size + name + extra
    body = _Bytes(content[start : start + member.file_size])
    version = np.lib.format.read_magic(body)
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, by_column, kind = reader(body)
    if kind.hasobject:
        raise ValueError(f"{member.filename} holds Python objects")
    count = int(np.prod(shape, dtype=np.int64))
    start += body.tell()
    # Over its own bytes alone: scipy copies what it takes for a small part of a large array.
    array = np.frombuffer(memoryview(content)[start : start + count * kind.itemsize], kind)
    array = array.reshape(shape, order="F" if by_column else "C")
    return array if array.flags.aligned else array.copy(order="K")


class _Bytes(io.RawIOBase):
    """A file over an array, of which only what is asked for is copied."""

    def __init__(self, content: np.ndarray):
        self.content, self.at = memoryview(content), 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self.at, io.SEEK_END: len(self.content)}[whence]
        self.at = max(base + offset, 0)
        return self.at

    def tell(self) -> int:
        return self.at

    def readinto(self, into) -> int:
        some = self.content[self.at : self.at + len(into)]
        into[: len(some)] = some
        self.at += len(some)
        return len(some)
