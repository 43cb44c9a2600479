"""Many damaged files of every format that is read: each is shown right or told about, in little memory and time."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
import tifffile

import scopecast
from children import Child
from corpus import FORMATS, damage, write_good
from receivers import check_stamp, stamped
from scopecast.testing import Observer

if TYPE_CHECKING:
    from pathlib import Path

COPIES = 60


@pytest.mark.fault("R9")
@pytest.mark.parametrize("name", FORMATS)
def test_each_damaged_copy_is_shown_or_told_about(tmp_path: Path, name: str):
    cut_and_shown = []
    with Child("read_damaged", tmp_path, name, COPIES, 0) as child:
        while "left_open" not in (line := child.line()):
            if "how" not in line:
                continue
            told = line["told"] or "".join(line["new_notes"])
            # What changed pixels has changed them; but what is cut off is missed, or was not needed.
            if line["cut"] and not line["same"] and not told:
                cut_and_shown.append(line["how"])
            assert "\n" not in line["told"], line
            assert line["told"] or line["same"] or not line["cut"] or line["new_notes"], line
        assert child.wait() == 0
    assert not cut_and_shown
    assert line["left_open"] == 0


@pytest.mark.fault("R9")
@pytest.mark.parametrize("name", [name for name in FORMATS if "/" not in name and name != "ndtiff"])
def test_the_good_file_beside_damaged_ones_is_shown(tmp_path: Path, name: str):
    image = write_good(tmp_path / "corpus", name)
    folder = tmp_path / "folder"
    folder.mkdir()
    copies = list(damage(image, 24, seed=random.Random(name).randrange(100)))
    for number, damaged in enumerate(copies):
        (folder / f"damaged {number:02}{''.join(image.suffixes)}").write_bytes(damaged.content)
    tifffile.imwrite(folder / "the good one.tif", stamped(7))
    with Observer("headless") as observer:
        receipt = scopecast.show(folder, viewer="headless")
    good = [seen.pixels for seen in observer.seen if seen.path.endswith("the good one.tif")]
    assert [check_stamp(pixels)[0] for pixels in good] == [7]
    not_shown = {skipped.path for skipped in receipt.skipped}
    assert {*map(str, folder.iterdir())} == {*receipt.sent} | not_shown
    assert all(skipped.reason and "\n" not in skipped.reason for skipped in receipt.skipped)
    assert receipt.frames == len(observer.seen)
