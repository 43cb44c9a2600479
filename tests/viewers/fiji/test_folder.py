"""Which folder is meant by the path of a Fiji, what is said of one that is none, and what it has."""

from __future__ import annotations

import os
import sys
import zipfile
from typing import TYPE_CHECKING

import psutil
import pytest

from scopecast.errors import ViewerStartError
from scopecast.publishing.environment import imagej_variables
from scopecast_viewers.fiji.folder import find_fiji, heap_setting, jars_of
from scopecast_viewers.fiji.jvm import Choice, choose

if TYPE_CHECKING:
    from pathlib import Path


def touch(path: Path, content: bytes = b"") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("named", "fiji"),
    [
        pytest.param("Fiji", "Fiji", id="the folder"),
        pytest.param("Fiji.app", "Fiji.app", id="the folder of an older one"),
        pytest.param("", "Fiji", id="where it was unpacked"),
        pytest.param("", "Fiji.app", id="where an older one was unpacked"),
        pytest.param("Fiji/fiji", "Fiji", id="its launcher"),
        pytest.param("Fiji.app/ImageJ-linux64", "Fiji.app", id="an older launcher"),
        pytest.param("Fiji/Fiji.app/Contents/MacOS/fiji-macos", "Fiji", id="the launcher in the bundle"),
        pytest.param("Fiji/Fiji.app", "Fiji", id="the bundle"),
        pytest.param("Fiji.app/Contents", "Fiji.app", id="Contents"),
        pytest.param("Fiji.app/Contents/MacOS/ImageJ-macosx", "Fiji.app", id="an older launcher in the bundle"),
        pytest.param("a lab's Fiji/Fiji", "a lab's Fiji/Fiji", id="spaces and quotes"),
    ],
)
def test_the_folder_that_a_path_means(named, fiji, tmp_path):
    touch(tmp_path / fiji / "jars" / "ij-1.54p.jar")
    path = tmp_path / named
    if "/" in named and not path.suffix and path.name != "Contents" and named != fiji:
        touch(path)
    else:
        path.mkdir(parents=True, exist_ok=True)
    assert find_fiji(path) == tmp_path / fiji
    assert choose({"FIJI_HOME": str(path)}) == Choice("folder", str(tmp_path / fiji))


def test_a_relative_path_is_the_same_for_the_viewer(tmp_path, monkeypatch):
    touch(tmp_path / "Fiji" / "jars" / "ij.jar")
    launcher = touch(tmp_path / "Fiji" / "fiji")
    monkeypatch.chdir(tmp_path)
    assert imagej_variables("Fiji/fiji") == {"SCOPECAST_FIJI": str(launcher)}
    assert imagej_variables("Fiji") == {"SCOPECAST_FIJI": str(tmp_path / "Fiji")}


@pytest.mark.parametrize(
    ("files", "named", "said"),
    [
        pytest.param([], "", "it is empty; unpack Fiji into it", id="empty"),
        pytest.param(["ij.jar", "plugins/A_.jar"], "", r"this is an ImageJ 1 \(ij\.jar", id="ImageJ 1"),
        pytest.param(["readme.txt"], "", "no ImageJ in this folder; name the one that has a folder 'jars'", id="other"),
        pytest.param(["jars/readme.txt"], "", "no ImageJ in this folder", id="no jars"),
        pytest.param(["image.tif"], "image.tif", "there is no Fiji around this file", id="a file"),
    ],
)
def test_what_is_no_fiji_is_said_with_what_to_do(files, named, said, tmp_path):
    for file in files:
        touch(tmp_path / file)
    with pytest.raises(ViewerStartError, match=said) as raised:
        choose({"FIJI_HOME": str(tmp_path / named)})
    assert str(raised.value).startswith(f"FIJI_HOME={tmp_path / named}: ")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX")
@pytest.mark.parametrize("closed", ["", "Fiji", "Fiji/jars"])
def test_a_folder_that_may_not_be_read(closed, tmp_path):
    touch(tmp_path / "of another" / "Fiji" / "jars" / "ij.jar")
    (tmp_path / "of another" / closed).chmod(0)
    root = os.geteuid() == 0
    try:
        if root:  # who may read everything
            for folder in (tmp_path, *list(tmp_path.parents)[:3]):
                folder.chmod(folder.stat().st_mode | 0o055)
            os.seteuid(65534)
        with pytest.raises(
            ViewerStartError, match=r"can't be read \(Permission denied\); ask for permission to read it"
        ):
            choose({"FIJI_HOME": str(tmp_path / "of another" / "Fiji")})
    finally:
        if root:
            os.seteuid(0)
        (tmp_path / "of another" / closed).chmod(0o700)


@pytest.mark.parametrize(
    ("file", "text", "heap"),
    [
        pytest.param("ImageJ.cfg", "# ImageJ startup properties\nmaxheap.mb = 4096\njvmargs = \n", 4 << 30, id="older"),
        pytest.param("ImageJ.cfg", ".\njre/bin/java\n-Xmx3000m -cp ij.jar ij.ImageJ\n", 3000 << 20, id="ImageJ 1"),
        pytest.param("config/jaunch/fiji.cfg", "launch-mode = JVM\nmax-heap = 8g\n", 8 << 30, id="today"),
        pytest.param("config/jaunch/fiji.cfg", "max-heap=50%", None, id="a share"),
        pytest.param("ImageJ.cfg", "# nothing\n", 0, id="nothing"),
    ],
)
def test_the_memory_that_the_user_has_given_it(file, text, heap, tmp_path):
    touch(tmp_path / file, text.encode())
    expected = psutil.virtual_memory().total * 50 // 100 if heap is None else heap or None
    assert heap_setting(tmp_path) == expected


def test_jars_that_are_damaged_are_told_apart(tmp_path):
    whole = tmp_path / "jars" / "bio-formats" / "whole.jar"
    whole.parent.mkdir(parents=True)
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("A.class", bytes(5000))
    touch(tmp_path / "plugins" / "of the lab" / "My_.jar", whole.read_bytes())
    cut = touch(tmp_path / "jars" / "cut.jar", whole.read_bytes()[:-100])
    empty = touch(tmp_path / "jars" / "empty.jar")
    jars, damaged = jars_of(tmp_path)
    assert [jar.name for jar in jars] == ["whole.jar", "My_.jar"]
    assert set(damaged) == {cut, empty}
