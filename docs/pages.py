"""Pages that are made from the code: the command line, the messages with their golden bytes, the matrix of faults."""

from __future__ import annotations

import ast
import inspect
import json
import os
import re
import runpy
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
#: Where the pictures are looked for; `docs/pictures` takes them.
PICTURES = "_pictures"


def _dot() -> bytes:
    """Return a PNG of one pixel: it stands for the pictures where only the text is to be checked."""
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"\0\0")),
        (b"IEND", b""),
    )
    packed = (
        struct.pack(">I", len(data)) + tag + data + struct.pack(">I", zlib.crc32(tag + data)) for tag, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def write(folder: Path) -> None:
    """Write the generated pages; those that have not changed keep their time, so that Sphinx leaves them alone."""
    folder.mkdir(exist_ok=True)
    pages = {
        "cli.md": command_line,
        "messages.md": messages,
        "remote_messages.md": remote_messages,
        "types.md": types,
        "limits.md": limits,
        "entry.md": entry,
        "segment.md": segment,
        "faults.md": faults,
        "decisions.md": decisions,
    }
    for name, make in pages.items():
        text = make()
        page = folder / name
        if not page.exists() or page.read_text("utf-8") != text:
            page.write_text(text, "utf-8")


def require_pictures(docs: Path) -> None:
    """See that every picture that a page shows is there.

    Raises
    ------
    FileNotFoundError
        If one is missing, and ``SCOPECAST_DOCS_PICTURES`` is not ``none``; ``make docs`` takes them.
    """
    wanted = {
        docs / PICTURES / name
        for page in docs.rglob("*.md")
        for name in re.findall(rf"{PICTURES}/([\w-]+\.png)", page.read_text("utf-8"))
    }
    for picture in sorted(path for path in wanted if not path.exists()):
        if os.environ.get("SCOPECAST_DOCS_PICTURES") != "none":
            msg = f"the picture {picture.name} is missing: `make docs` takes the pictures and then builds the manual"
            raise FileNotFoundError(msg)
        picture.parent.mkdir(exist_ok=True)
        picture.write_bytes(_dot())


#: What each command prints as its result, and lines to copy.
EXAMPLES = {
    "demo": """
scopecast demo                                         # napari, about a minute
scopecast demo --viewer both --timepoints 50           # napari and ImageJ side by side
scopecast demo --no-keep --screenshot window.png --json figures.json
scopecast demo --no-keep --json - | jq .delivered      # - is standard output
""",
    "show": r"""
scopecast show stack.ome.tif
scopecast show results/*.tif --title "plate 7" --scale 0.65
scopecast show run/ --recursive
scopecast show folder/ --pattern "t(?P<t>\d+)_(?P<c>[A-Z]+)"
scopecast show cells.tif cells.roi.zip --viewer fiji
""",
    "watch": """
scopecast watch /data/today
scopecast watch /data/today --recursive --existing --glob "*_processed.tif"
""",
    "replay": """
scopecast replay run.ome.tif                           # at the recorded times
scopecast replay run/ --speed 10 --loop
scopecast replay run/ --fps 25
""",
    "pipe": """
scopecast pipe cells.py:segment                        # what it returns are labels
scopecast pipe my_package.spots:find --kind points --channel DAPI
scopecast pipe flat.py:corrected --kind image --title "camera 1" --every
""",
    "record": """
scopecast record /data/today                           # each run becomes an OME-TIFF
scopecast record /data/today --title "camera 1" --channel DAPI --zarr
scopecast record /data/interesting --last 30s          # written when you press Enter
""",
    "recover": """
scopecast recover /data/today
scopecast recover /data/today --to /mnt/other_disk     # where the disk is full
""",
    "relay": """
scopecast relay                                        # connect starts one by itself, if none runs
scopecast relay --list                                 # who watches, and what each has got
""",
    "connect": """
scopecast connect lab-pc                               # as in `ssh lab-pc`
scopecast connect me@lab-pc --ssh "ssh -p 2222" --viewer fiji
scopecast connect lab-pc --command ~/env/bin/scopecast # where it is installed there
scopecast connect 'scopecast://192.168.1.20:51234/…'    # a link that `scopecast share` printed there
""",
    "share": """
scopecast share --name Ana                             # prints a link for Ana, and serves her
scopecast share --name Ben --role marks --for 2h       # Ben can also send marks; two hours to use the link
scopecast share --no-invite                            # serve those who have been admitted
scopecast share --list
scopecast share --revoke Ana
""",
    "viewers": """
scopecast viewers
scopecast viewers --json | jq '.[].title'
""",
    "open": """
scopecast open                                         # napari
scopecast open fiji --fiji ~/Fiji.app
""",
    "clean": """
scopecast clean
""",
    "doctor": """
scopecast doctor
scopecast doctor --json > report.json                  # to attach to a bug report
xvfb-run -a scopecast doctor                           # on a server: also checks whether windows open
""",
    "bench": """
scopecast bench                                        # about a minute
scopecast bench --json figures.json
""",
}
#: The exit codes of a command, beside 0 (done), 2 (a value that can't be used), and those of signals.
EXITS = {
    "demo": "1 if what the demo needs is missing, or the acquisition failed",
    "show": "1 if any file could not be shown, or no viewer could be started",
    "watch": "130 after Ctrl-C, its usual end; 1 if the folder or the viewer goes",
    "replay": "1 if any file could not be replayed; 130 after Ctrl-C",
    "pipe": "130 after Ctrl-C, its usual end; 0 if it ended by `--wait`",
    "record": "130 after Ctrl-C, its usual end; 0 if it ended by `--wait`",
    "recover": "0, also if there was nothing to recover; 1 if a file could not be written",
    "relay": "130 after Ctrl-C; 0 if it ended by `--end-after`; 1 if one runs already",
    "connect": "130 after Ctrl-C, its usual end; 1 if there is no connection at first, or none can be had any more",
    "share": "130 after Ctrl-C, its usual end; 0 if it printed a link for the one that runs; 1 if the port is taken",
    "viewers": "0, also if nothing is running",
    "open": "1 if the viewer could not be started",
    "clean": "0, also if there was nothing to clean up",
    "doctor": "1 if something that is installed cannot work; warnings alone give 0",
    "bench": "1 if it could not measure; 0 even where a target is missed",
}


def command_line() -> str:
    """Return the page of the command line: of each command its help, options, exit codes and examples."""
    from scopecast.cli.main import app

    root: Any = typer.main.get_command(app)
    commands = {name: command for name, command in root.commands.items() if not command.hidden}
    lines = ["# Command line", "", inspect.cleandoc(root.help or ""), ""]
    lines += ["| command | what it does |", "|:--|:--|"]
    lines += [
        f"| [`scopecast {name}`](#scopecast-{name}) | {_cell(_paragraphs(each)[0])} |"
        for name, each in commands.items()
    ]
    lines += ["", "Options of `scopecast` itself, which go before the command or after it (`--debug`):", ""]
    lines += _options(root)
    for name, command in commands.items():
        arguments = " ".join(param.metavar or param.name for param in command.params if not _is_option(param))
        lines += [f"## scopecast {name}", "", "```sh", f"scopecast {name} [OPTIONS] {arguments}".rstrip(), "```", ""]
        lines += ["\n\n".join(_paragraphs(command)), ""]
        lines += _options(command)
        lines += [
            f"**Exit code:** {EXITS[name]}; 2 for an option or a value that can't be used.",
            "",
            "```sh",
            EXAMPLES[name].strip(),
            "```",
            "",
        ]
    return "\n".join(lines)


def _is_option(param: Any) -> bool:
    return param.param_type_name == "option"


def _paragraphs(command: Any) -> list[str]:
    return [" ".join(part.split()) for part in inspect.cleandoc(command.help or "").split("\n\n")]


def _options(command: Any) -> list[str]:
    """Return the arguments and options of a command as a table; the page may wrap them, and cuts nothing off."""
    lines = ["| option | default | meaning |", "|:--|:--|:--|"]
    for param in command.params:
        if getattr(param, "hidden", False):
            continue
        names = [f"`{name}`" for name in (*param.opts, *param.secondary_opts)]
        shown = ", ".join(names) if _is_option(param) else f"`{_cell(param.metavar or param.name)}`"
        if _is_option(param) and not getattr(param, "is_flag", False):
            shown += " " + _cell(param.metavar or ("TEXT" if isinstance(param.default, str) else "N"))
        default = param.default if isinstance(param.default, str | int | float) and param.default is not False else ""
        meaning = _cell(getattr(param, "help", "") or "")
        lines.append(f"| {shown} | {f'`{default}`' if default != '' else ''} | {meaning} |")
    return [*lines, ""]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


# ---- the protocol ----------------------------------------------------------------------------------------------------


def types() -> str:
    """Return the table of the types that have a name, as the code checks them."""
    lines = ["| type | what it is |", "|:--|:--|"]
    lines += [f"| `{name}` | {_said(info)} |" for name, info in _named_types().items()]
    return "\n".join(lines)


def limits() -> str:
    """Return the table of the numbers that both sides rely on."""
    from scopecast.frames.documents import MAX_DOCUMENT_BYTES
    from scopecast.link.messages import KEPT_STREAMS, MAX_MESSAGE_BYTES, MAX_METADATA_BYTES
    from scopecast.protocol import PROTOCOL
    from scopecast.publishing.keeper import MISSED_PINGS
    from scopecast.publishing.receivers import GOODBYE_S, HEARTBEAT_S, MAX_RECEIVERS
    from scopecast.rundir.directory import MAX_ENTRY_BYTES

    rows = {
        "version of the protocol": PROTOCOL,
        "bytes of a message": f"at most {MAX_MESSAGE_BYTES}; a longer one closes the connection that brought it",
        "bytes of a frame's metadata": f"at most {MAX_METADATA_BYTES}",
        "bytes of a document": f"at most {MAX_DOCUMENT_BYTES}",
        "bytes of an entry": f"at most {MAX_ENTRY_BYTES}",
        "receivers of a publisher": f"at most {MAX_RECEIVERS}; the next one is answered with REJECT",
        "streams that a receiver is told of when it joins": f"the newest {KEPT_STREAMS}",
        "from PING to PING": f"{HEARTBEAT_S} s (`heartbeat` in WELCOME)",
        "PINGs without any message in return, after which a receiver is given up": MISSED_PINGS,
        "how long a publisher waits for the answers to its BYE": f"{GOODBYE_S} s",
    }
    return "\n".join(["| what | |", "|:--|:--|", *(f"| {name} | {value} |" for name, value in rows.items())])


def entry() -> str:
    """Return the table of the keys of an entry in the run directory."""
    from scopecast.rundir.directory import Entry

    about = _attributes(Entry)
    lines = ["| key | type | default | meaning |", "|:--|:--|:--|:--|"]
    lines += [
        f"| `{field.name}` | {_type_of(field.type)} | {_default_of(field)} | {about[field.name]} |"
        for field in msgspec.structs.fields(Entry)
    ]
    return "\n".join(lines)


def segment() -> str:
    """Return the tables of a segment's header and slot table."""
    from scopecast.memory import ring
    from scopecast.memory.segment import NAME_PATTERN

    about = _attributes(ring.Header)
    lines = [f"The name of a segment matches `{_cell_code(NAME_PATTERN.pattern)}`.", ""]
    lines += ["| offset | bytes | field | meaning |", "|--:|--:|:--|:--|"]
    offset = 0
    for name, form in zip(ring.Header._fields, ring.HEADER_FORMATS, strict=True):
        size = struct.calcsize("=" + form)
        lines.append(f"| {offset} | {size} | `{name}` | {about[name]} |")
        offset += size
    lines += [
        "",
        f"A header is valid if `magic` is `{ring.MAGIC.decode()}`, `version` is {ring.VERSION}, `state` is "
        f"{ring.READY:#x}, `token` and `epoch` are those of WELCOME, `slots` is 1 to {ring.MAX_SLOTS}, `table` is "
        f"{ring.PAGE}, `pixels` is the first multiple of {ring.PAGE} behind the table, and the segment has at least "
        f"`total` bytes.",
        "",
        f"Each slot has an entry of {ring.WORDS * 8} bytes in the slot table; slot `n`'s begins at `table` + `n` * "
        f"{ring.WORDS * 8}:",
        "",
        "| offset | bytes | field | meaning |",
        "|--:|--:|:--|:--|",
        f"| {ring.GENERATION * 8} | 8 | `generation` | odd while the slot is written, even when it holds a frame |",
        f"| {ring.SEQUENCE * 8} | 8 | `sequence` | of the frame, as in FRAME |",
        f"| {ring.NBYTES * 8} | 8 | `nbytes` | bytes of the frame |",
        f"| {ring.PUBLISHED * 8} | 8 | `published_ns` | when it was published, by CLOCK_MONOTONIC |",
        "",
        "A caption is for who finds the ring of a publisher that was killed. It has two 32-bit numbers, the lengths of "
        "the messages STREAM and FRAME that announced the frame in the slot, and then both. Where they are longer than "
        "that, FRAME is without its metadata, and STREAM without labels; the lengths are 0 if that is not enough. The "
        "frame is whole if its `generation` is that of the slot.",
    ]
    return "\n".join(lines)


def _attributes(documented: Any) -> dict[str, str]:
    """Return what the docstring of a class says of each attribute."""
    text = (inspect.getdoc(documented) or "").partition("----------\n")[2]
    found = re.findall(r"^(\w+)\n((?: +.*\n?)+)", text, re.MULTILINE)
    return {name: " ".join(said.split()).replace("``", "`") for name, said in found}


def _named_types() -> dict[str, Any]:
    """Return the types of fields that have a name."""
    from scopecast import protocol
    from scopecast.link import messages as wire

    named = {**vars(protocol), **vars(wire)}
    return {name: msgspec.inspect.type_info(value) for name, value in named.items() if hasattr(value, "__metadata__")}


def _type_of(annotation: Any) -> str:
    return _said(msgspec.inspect.type_info(annotation), names=True)


def _said(info: Any, *, names: bool = False) -> str:
    """Describe a type; by its name, if it has one and `names` is set."""
    kind = type(info).__name__
    if names:
        for name, named in _named_types().items():
            if named == info:
                return f"`{name}`"
    inner = {
        "IntType": lambda: _range("whole number", info, 0),
        "FloatType": lambda: _range("float", info, 0.0),
        "StrType": lambda: (
            f"text that matches `{_cell_code(info.pattern)}`"
            if info.pattern
            else f"text of {info.min_length or 0} to {info.max_length} characters"
        ),
        "ListType": lambda: f"array of at most {info.max_length}: {_said(info.item_type, names=True)}",
        "DictType": lambda: (
            f"map of at most {info.max_length}: {_said(info.key_type, names=True)} to "
            f"{_said(info.value_type, names=True)}"
        ),
        "LiteralType": lambda: " or ".join(f"`{json.dumps(value)}`" for value in info.values),
        "BoolType": lambda: "true or false",
        "RawType": lambda: "any value",
        "MemoryViewType": lambda: "bytes",
        "TupleType": lambda: f"array: {', '.join(_said(each, names=True) for each in info.item_types)}",
        "StructType": lambda: (
            f"the message {info.tag}"
            if info.tag
            else f"array: {', '.join(f'`{each.name}` ({_said(each.type, names=True)})' for each in info.fields)}"
        ),
    }
    said: str = inner[kind]()
    return said


def _range(what: str, info: Any, zero: float) -> str:
    least = info.ge if info.ge is not None else info.gt
    most = info.le if info.le is not None else info.lt - 1
    powers = {2**bits - 1: f"2^{bits} - 1" for bits in (31, 32, 63)}
    return f"{what} from {least:g} to {powers.get(most, f'{most:.15g}')}"


def _default_of(field: Any) -> str:
    """Return the default of a field; ``""`` if it must be there."""
    value = field.default
    if field.default_factory is not msgspec.NODEFAULT:
        value = field.default_factory()
    if value is msgspec.NODEFAULT:
        return ""
    return f"`{json.dumps(msgspec.msgpack.decode(msgspec.msgpack.encode(value)))}`"


def _cell_code(text: str) -> str:
    return text.replace("|", "\\|")


def messages() -> str:
    """Return the page of the messages: fields, types, and the golden bytes that the tests hold them to."""
    from scopecast.link import messages as wire

    return _messages_of(wire, "link")


def remote_messages() -> str:
    """Return the same of the messages between a relay and a desk."""
    from scopecast.remote import messages as wire

    return _messages_of(wire, "remote")


def _messages_of(wire: Any, package: str) -> str:
    golden = _golden(package)
    lines = [_first_table(inspect.getdoc(wire) or ""), ""]
    for message in _in_order(wire):
        tag = message.__struct_config__.tag
        fields = msgspec.structs.fields(message)
        lines += [f"### {tag}", "", (inspect.getdoc(message) or "").replace("``", "`"), ""]
        if fields:
            lines += ["| position | field | type | default |", "|--:|:--|:--|:--|"]
            for position, field in enumerate(fields, 1):
                lines.append(f"| {position} | `{field.name}` | {_type_of(field.type)} | {_default_of(field)} |")
            lines.append("")
        if tag in golden:
            said, data = golden[tag]
            lines += ["```{code-block} text", ":class: golden", "", said, data, "```", ""]
    return "\n".join(lines)


def _in_order(wire: Any) -> Iterator[Any]:
    source = inspect.getsource(wire)
    classes = [value for value in vars(wire).values() if inspect.isclass(value) and value.__module__ == wire.__name__]
    tagged = [each for each in classes if getattr(each, "__struct_config__", None) and each.__struct_config__.tag]
    return iter(sorted(tagged, key=lambda each: source.index(f"class {each.__name__}(")))


def _first_table(text: str) -> str:
    """Return the reStructuredText table of the module's docstring as it stands."""
    rows = text.splitlines()
    bars = [at for at, line in enumerate(rows) if line.startswith("====")]
    table = rows[bars[0] : bars[-1] + 1] if len(bars) >= 3 else []
    return "\n".join(["```{eval-rst}", *table, "```"])


def _golden(package: str) -> dict[str, tuple[str, str]]:
    """Return the messages of the test of the golden bytes, as they are written there, with their bytes."""
    path = f"tests/scopecast/{package}/test_messages.py"
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") == "GOLDEN":
            assert isinstance(node.value, ast.Dict)
            return {
                ast.literal_eval(key): (ast.unparse(value.elts[0]), ast.literal_eval(value.elts[1]))
                for key, value in zip(node.value.keys, node.value.values, strict=True)
                if key is not None and isinstance(value, ast.Tuple)
            }
    msg = f"{path} has no GOLDEN"
    raise LookupError(msg)


def faults() -> str:
    """Return the table of the faults and of the tests that prove what happens then."""
    text: str = runpy.run_path(str(ROOT / "docs/fault_matrix.py"))["table"]()
    return text


def decisions() -> str:
    """Return the list of the decisions, each with the title of its page."""
    pages = sorted((ROOT / "docs/decisions").glob("0*.md"))
    titles = (page.read_text("utf-8").partition("\n")[0].removeprefix("# ") for page in pages)
    return "".join(f"- [{title}]({page.name})\n" for page, title in zip(pages, titles, strict=True))
