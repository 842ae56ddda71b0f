"""Damage that GDAL does not see: it checks neither the CRC of archives nor the checksums that products bring.

A flipped bit of a JPEG 2000 file decodes to other pixels without a message.
"""

import hashlib
import re
import zipfile
from collections.abc import Iterable
from typing import BinaryIO

from landfold.geo.dataset import RasterError
from landfold.scenes.sensors.metadata import ARCHIVE_ERRORS
from landfold.scenes.sensors.scene_files import BandFile, MaskFile

CHUNK = 1 << 20


def check_integrity(files: Iterable[BandFile | MaskFile]) -> None:
    """Read files of archives, and files with a checksum, whole.

    Raises:
        RasterError: if the content of one is not that of its CRC or checksum.
    """
    by_location = {file.location: file for file in files}
    for location, file in by_location.items():
        member = re.match(rf"/vsizip/\{{?{re.escape(str(file.path))}\}}?/(.+)", str(location))
        if not member and file.checksum is None:
            continue
        try:
            if member:
                with zipfile.ZipFile(file.path) as archive, archive.open(member[1]) as stream:
                    _compare(stream, file)
            else:
                with file.path.open("rb") as stream:
                    _compare(stream, file)
        except ARCHIVE_ERRORS as error:
            where = f"{file.path}: {file.shown} in it" if member else str(file.path)
            raise RasterError(f"{where} is damaged or cannot be read ({error}); fetch it again") from None


def _compare(stream: BinaryIO, file: BandFile | MaskFile) -> None:
    """Read a stream to its end, where zipfile compares the CRC, and compare its checksum."""
    algorithm, expected = file.checksum or ("sha256", None)
    total = hashlib.new(algorithm)
    while chunk := stream.read(CHUNK):
        total.update(chunk)
    if expected is not None and total.hexdigest() != expected:
        raise RasterError(
            f"{file.path}: the {algorithm} of {file.shown} is {total.hexdigest()}, but manifest.safe has {expected}; "
            "the file is damaged or was changed: fetch the product again"
        )
