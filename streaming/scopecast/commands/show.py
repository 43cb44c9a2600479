"""``scopecast show``: image files into a viewer."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from scopecast.commands.terminal import AXES_HELP, VIEWER_HELP, count, err, out, report, say_notes, shorten
from scopecast.errors import FileError
from scopecast.files import common_folder, find_files
from scopecast.showing import Showing, opened_viewer, split_axes_option

__all__ = ["check_calibration", "show"]


def show(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILES…", help="Images (TIFF, PNG, JPEG, NPY), folders of them, patterns ('*.tif')."),
    ],
    axes: Annotated[str | None, typer.Option(metavar="PATTERN", help=AXES_HELP)] = None,
    viewer: Annotated[str, typer.Option(metavar="KIND", help=VIEWER_HELP)] = "napari",
    title: Annotated[str, typer.Option(help="What the layers are called; by default the file or its folder.")] = "",
    pixel_size: Annotated[
        float | None, typer.Option(metavar="µm", help="Size of a pixel in µm, where the files don't say it (or wrongly).")
    ] = None,
    z_step: Annotated[float | None, typer.Option(metavar="µm", help="Distance of the z planes in µm, likewise.")] = None,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for a viewer that takes nothing more.")] = 30.0,
) -> None:
    """Show image files in the viewer that runs, or in a new one.

    Stacks keep their axes, channels, colours and pixel size (ImageJ, OME-TIFF, Micro-Manager). Files whose names tell
    where they belong (img_t003_c1.tif) become one stack, those whose names say nothing lie side by side on a slider
    "file". Large files are read plane by plane. The window stays until you close it.
    """
    dims, pattern, _ = split_axes_option(axes)
    about = check_calibration(pixel_size, z_step)
    found, others = find_files(files)
    failed = 0
    shown = frames = 0
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=err
    ) as bar:
        starting = bar.add_task(f"opening {viewer} …", total=None)
        with (
            opened_viewer(viewer),
            Showing(
                viewer,
                title=title,
                pattern=pattern,
                dims=dims,
                about=about,
                timeout=timeout,
                root=common_folder(found),
                lone=len(found) == 1,
            ) as showing,
        ):
            bar.remove_task(starting)
            everything = bar.add_task("files", total=len(found), visible=len(found) > 1)
            planes = bar.add_task("planes", visible=False)
            for file in found:
                name = shorten(file.name)

                def progress(done: int, total: int, name: str = name) -> None:
                    bar.update(planes, completed=done, total=total, visible=total > 1, description=name)

                try:
                    frames += showing.file(file, progress)
                    shown += 1
                except FileError as error:
                    failed += 1
                    report(file, error, bar.console)
                bar.advance(everything)
            showing.finish()
            say_notes(showing.notes, bar.console)
    left_out = f"; {count(others, 'other file')} left out, as not images" if others else ""
    not_shown = f"; {count(failed, 'file')} not shown" if failed else ""
    out.print(f"Shown in {viewer}: {count(shown, 'file')}, {count(frames, 'plane')}{not_shown}{left_out}.")
    if failed:
        raise typer.Exit(1)


def check_calibration(pixel_size: float | None, z_step: float | None) -> dict[str, Any]:
    """Return what the options say of sizes, as arguments of a stream.

    Raises
    ------
    ValueError
        If one is not positive.
    """
    about: dict[str, Any] = {}
    for name, value in (("--pixel-size", pixel_size), ("--z-step", z_step)):
        if value is not None and not 0 < value < 1e9:
            msg = f"{name} is a length in µm, such as 0.65; not {value:g}"
            raise ValueError(msg)
    if pixel_size is not None:
        about.update(scale=(pixel_size, pixel_size), units="um")
    if z_step is not None:
        about["steps"] = {"z": z_step}
    return about
