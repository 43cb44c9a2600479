"""Commands that ImageJ2 runs by itself hold a live image, as those of the menus do.

Fiji's search bar (``RunModuleSearchActionFactory`` of scijava-search) runs what was found by ``ModuleService.run``; so
does this test, with the SciJava of Maven Central, which has neither the search bar nor imagej-legacy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fiji_process import SHAPE, FijiProcess
from receivers import stamped

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from scopecast import Publisher

pytestmark = pytest.mark.timeout(280)
SERVICE = "java('net.imagej.ImageJ').opened.service(java('org.scijava.module.ModuleService'))"
RUN = f"{SERVICE}.run(java('org.scijava.command.CommandInfo')(java('lab.Look').class_), True, []) is not None"


@pytest.fixture(scope="module")
def fiji(
    shared_runtime: Path, screen: None, stock_fiji: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FijiProcess]:
    with FijiProcess(stock_fiji, tmp_path_factory.mktemp("home")) as made:
        yield made


def publish(publisher: Publisher, *times: int) -> None:
    for t in times:
        publisher.publish(stamped(t, 0, 0, SHAPE), axes={"t": t})
    assert publisher.flush(60)


@pytest.mark.parametrize("fails", [False, True], ids=["it ends in order", "it fails"])
def test_an_image_does_not_grow_under_a_command_of_the_search_bar(fiji: FijiProcess, fails: bool):
    for _ in range(2):
        with fiji.publisher() as publisher:
            publish(publisher, 0, 1, 2)
            fiji.until("int(imp().getNFrames()) == 3 and imp() == java('ij.WindowManager').getCurrentImage()")
            fiji.ask(f"java('lab.Look').prepare({fails})")
            assert fiji.ask(RUN) is True
            fiji.until("int(java('lab.Look').begun.getCount())", 0)
            publish(publisher, 3, 4)
            fiji.until("images()[-1].waits_for", "command:lab.Look")
            assert fiji.ask("int(imp().getNFrames())") == 3
            fiji.ask("java('lab.Look').goOn.countDown()")
            fiji.until("int(imp().getNFrames())", 5)
            assert fiji.ask("str(java('lab.Look').seen)") == "3 3"
            fiji.until("images()[-1].waits_for", "")
