"""Many damaged files of every format that is read: each is shown right or told about, in little memory and time."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

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


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """What one process that reads the damaged copies of all formats tells, by format; to start one for each is slow."""
    told: dict[str, list[dict[str, Any]]] = {}
    with Child("read_damaged", tmp_path_factory.mktemp("damaged"), COPIES, 0, *FORMATS) as child:
        for _ in FORMATS:
            lines = told[child.line()["format"]] = []
            while "left_open" not in (line := child.line()):
                lines.append(line)
            lines.append(line)
        assert child.wait() == 0
    return told


@pytest.mark.fault("R9")
@pytest.mark.parametrize("name", FORMATS)
def test_each_damaged_copy_is_shown_or_told_about(told: dict[str, list[dict[str, Any]]], name: str):
    *lines, last = told[name]
    read = [line for line in lines if "how" in line]
    assert read
    for line in read:
        assert "\n" not in line["told"], line
        # What changed pixels has changed them; but what is cut off is missed, or was not needed.
        assert line["told"] or line["same"] or not line["cut"] or line["new_notes"], line
    assert last["left_open"] == 0


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
