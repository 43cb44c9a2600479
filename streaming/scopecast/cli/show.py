"""``scopecast show``: show image files in a viewer."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from scopecast.cli.console import err, out
from scopecast.cli.errors import values
from scopecast.cli.terminal import (
    AxesOption,
    DimsOption,
    FijiOption,
    PatternOption,
    ScaleOption,
    TitleOption,
    ViewerOption,
    ZStepOption,
    count,
    report,
    say_notes,
    shorten,
    showing_for,
    variables_of,
)
from scopecast.errors import FileError
from scopecast.frames.rois import ROI_EXTENSIONS
from scopecast.images.base import common_folder
from scopecast.images.open import EXTENSIONS, find_files, nothing_in, which_open
from scopecast.showing.pairing import has_regions, pair_up
from scopecast.showing.show import opened_viewer

__all__ = ["show"]


def show(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILES…",
            help="Images (TIFF, PNG, JPEG, NPY), ImageJ's .roi and .roi.zip, folders of them, patterns ('*.tif').",
        ),
    ],
    axes: AxesOption = None,
    dims: DimsOption = None,
    pattern: PatternOption = None,
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Include subfolders.")] = False,
    viewer: ViewerOption = "napari",
    fiji: FijiOption = None,
    title: TitleOption = "",
    scale: ScaleOption = None,
    z_step: ZStepOption = None,
    timeout: Annotated[
        float, typer.Option(min=0.1, help="Seconds to wait for a viewer that has stopped accepting frames.")
    ] = 30.0,
) -> None:
    """Show image files in the running viewer, or in a new one.

    Stacks keep their axes, channels, colours and pixel size (ImageJ, OME-TIFF, Micro-Manager). Files whose names say
    where they belong (img_t003_c1.tif) become one stack; the others lie one after the other on a slider "file".
    ImageJ's regions of interest appear on the image of the same name, or else on the one before. Large files are read
    plane by plane. The window stays open until you close it.
    """
    with values():
        variables = variables_of(viewer, fiji)
        showing_with = partial(showing_for, viewer, dims, pattern, title, scale, z_step, axes)
        showing_with()
    found, others = find_files(files, extensions=(*EXTENSIONS, *ROI_EXTENSIONS), recursive=recursive)
    found = pair_up(found)
    images = [file for file in found if not has_regions(file)]
    showing = showing_with(timeout=timeout, root=common_folder(images), lone=len(images) == 1)
    if not found:
        raise FileError(nothing_in(files, "add --recursive"))
    if not images:
        raise FileError("regions of interest belong to an image: name their image, too")
    if unreadable := which_open(images, showing.dims):  # no viewer is opened for nothing
        for file, problem in unreadable.items():
            report(file, problem, err)
        raise typer.Exit(1)
    failed = 0
    shown = 0
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=err,
        transient=True,
    ) as bar:
        starting = bar.add_task(f"opening {viewer} …", total=None)
        with opened_viewer(viewer, variables), showing:
            bar.remove_task(starting)
            everything = bar.add_task("files", total=len(found), visible=len(found) > 1)
            planes = bar.add_task("planes", visible=False)
            for file in found:
                name = shorten(file.name)

                def progress(done: int, total: int, name: str = name) -> None:
                    bar.update(planes, completed=done, total=total, visible=total > 1, description=name)

                try:
                    showing.file(file, progress)
                    shown += 1
                except FileError as error:
                    failed += 1
                    report(file, error, bar.console)
                if file in showing.damaged:
                    report(file, showing.damaged[file], bar.console, "shown in part")
                bar.advance(everything)
            showing.finish()
            say_notes(showing.notes, bar.console)
    left_out = f"; {count(others, 'other file')} left out: not images" if others else ""
    not_shown = f"; {count(failed, 'file')} not shown" if failed else ""
    regions = f", {count(showing.regions, 'region')} of interest" if showing.regions else ""
    planes_told = count(showing.planes, "plane", of=showing.planes + showing.missing)
    out.print(f"Shown in {viewer}: {count(shown, 'file', of=len(found))}, {planes_told}{regions}{not_shown}{left_out}.")
    if failed or showing.damaged:
        raise typer.Exit(1)
