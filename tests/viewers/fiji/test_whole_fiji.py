"""A whole Fiji (ImageJ2, legacy, SciJava): what its scripts and its menus do beside a live image.

``WHOLE_FIJI`` names its folder. Nothing is downloaded: the SciJava repository has it, Maven Central has not.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fiji_process import SHAPE, FijiProcess
from receivers import stamped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scopecast import Publisher

WHOLE = os.environ.get("WHOLE_FIJI", "")
pytestmark = [
    pytest.mark.timeout(280),
    pytest.mark.skipif(not WHOLE, reason="WHOLE_FIJI names no folder with a whole Fiji"),
]


@pytest.fixture(scope="module")
def fiji(shared_runtime: Path, screen: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FijiProcess]:
    with FijiProcess(Path(WHOLE), tmp_path_factory.mktemp("home")) as made:
        yield made


def frame(publisher: Publisher, t: int) -> None:
    publisher.publish(stamped(t, 0, 0, SHAPE), axes={"t": t})


def header(t: int) -> list[int]:
    return [int(value) for value in stamped(t, 0, 0, SHAPE)[0, :8]]


def test_a_script_gets_the_image_as_it_is_now(fiji):
    """`#@ Dataset`, and the conversion that `ij.py.from_java` begins with: Fiji keeps the first for ever."""
    count = "#@ Dataset data\n#@output long n\nn = data.dimension(2);"
    for run in range(2):
        with fiji.publisher() as publisher:
            for t in range(3):
                frame(publisher, 10 * run + t)
            assert publisher.flush(60)
            first = 10 * run
            fiji.until("int(imp().getNFrames()) == 3 and imp() == java('ij.WindowManager').getCurrentImage()")
            assert fiji.ask("extents(dataset())") == [48, 64, 3]
            assert fiji.ask(f"run_script({count!r})")["n"] == "3"
            for grown in (5, 6):
                for t in range(int(grown == 6) * 5 or 3, grown):
                    frame(publisher, first + t)
                assert publisher.flush(60)
                fiji.until(f"int(imp().getNFrames()) == {grown}")
                fiji.until("extents(dataset())", [48, 64, grown])
                assert fiji.ask(f"head(dataset(), {grown - 1})") == header(first + grown - 1)
                assert fiji.ask(f"run_script({count!r})")["n"] == str(grown)


def test_a_script_gets_what_has_come_in_the_place_of_what_it_has_seen(fiji):
    """The image need not grow: there may have been no frame yet where the script has looked."""
    with fiji.publisher() as publisher:
        for t in (20, 22):
            frame(publisher, t)
        assert publisher.flush(60)
        fiji.until("int(imp().getNFrames()) == 3")
        assert fiji.ask("head(dataset(), 1)") == [0] * 8
        frame(publisher, 21)
        assert publisher.flush(60)
        fiji.until("head(dataset(), 1)", header(21))


def test_the_menu_is_there_after_the_menus_were_made_anew(fiji):
    fiji.until("'scopecast' in menus('Plugins')")
    for _ in range(2):
        fiji.ask("java('ij.IJ').doCommand('Refresh Menus')")
        fiji.until("menus('Plugins').count('scopecast')", 1)
    assert fiji.ask("display.menu.menu.getItemCount() > 3")


def test_the_heap_and_the_java_are_the_folders(fiji):
    """As far as it has them: see `heap_setting` and `find_java`."""
    from scopecast_viewers.fiji.folder import heap_setting
    from scopecast_viewers.fiji.javahome import find_java

    wanted = heap_setting(Path(WHOLE))
    if wanted is not None:
        assert fiji.ask("int(java('java.lang.Runtime').getRuntime().maxMemory())") >= wanted * 0.9
    home = fiji.ask("str(java('java.lang.System').getProperty('java.home'))")
    assert Path(home).resolve() == find_java(Path(WHOLE)).home.resolve()


def test_quitting_while_frames_come_leaves_no_traceback(fiji):
    """The last one: it ends the viewer."""
    with fiji.publisher() as publisher:
        stop = threading.Event()

        def publish() -> None:
            t = 0
            while not stop.is_set():
                frame(publisher, t)
                t += 1
                time.sleep(0)

        feeder = threading.Thread(target=publish)
        feeder.start()
        try:
            fiji.until("int(imp().getNFrames()) > 20")
            fiji.ask("java('ij.IJ').getInstance().quit()")
            assert fiji.answer() == "ended in order"
            assert fiji.process.wait(60) == 0
        finally:
            stop.set()
            feeder.join()
        said = fiji.errors
        assert "Traceback" not in said
        assert "Exception" not in said
        assert publisher.stats().balanced
