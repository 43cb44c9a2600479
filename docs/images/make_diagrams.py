"""Draw the diagrams of the manual: ``python docs/images/make_diagrams.py`` writes the SVG files beside it."""

from __future__ import annotations

from html import escape
from pathlib import Path

HERE = Path(__file__).resolve().parent
INK, SOFT, PAPER = "#1f2937", "#6b7280", "#ffffff"
BLUE, GREEN, ORANGE, GRAY = "#dbeafe", "#dcfce7", "#ffedd5", "#f3f4f6"
EDGE = {BLUE: "#3b82f6", GREEN: "#22c55e", ORANGE: "#f97316", GRAY: "#9ca3af"}


class Drawing:
    """Boxes, arrows and words on white paper, legible in light and dark themes."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self.width, self.height = width, height
        self.parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
            f'font-family="Helvetica, Arial, sans-serif" font-size="14" fill="{INK}">',
            f"<title>{escape(title)}</title>",
            '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="10" markerHeight="10" '
            f'markerUnits="userSpaceOnUse" orient="auto-start-reverse"><path d="M0 0 L10 5 L0 10 z" fill="{INK}"/>'
            "</marker></defs>",
            f'<rect width="{width}" height="{height}" rx="10" fill="{PAPER}"/>',
        ]

    def box(self, x: int, y: int, width: int, height: int, color: str, *lines: str, size: int = 14) -> None:
        self.parts.append(
            f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="7" fill="{color}" stroke="{EDGE[color]}" '
            'stroke-width="1.5"/>'
        )
        top = y + height / 2 - (len(lines) - 1) * (size + 3) / 2 + size * 0.35
        for at, line in enumerate(lines):
            weight = ' font-weight="bold"' if at == 0 else f' fill="{SOFT}"'
            self.parts.append(
                f'<text x="{x + width / 2}" y="{top + at * (size + 3):.1f}" text-anchor="middle" '
                f'font-size="{size if at == 0 else size - 1.5}"{weight}>{escape(line)}</text>'
            )

    def frame(self, x: int, y: int, width: int, height: int, title: str) -> None:
        self.parts.append(
            f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="10" fill="none" stroke="{SOFT}" '
            'stroke-dasharray="5 4"/>'
        )
        self.text(x + 12, y + 21, title, anchor="start", color=SOFT)

    def text(
        self, x: float, y: float, words: str, *, anchor: str = "middle", color: str = INK, size: float = 13
    ) -> None:
        self.parts.append(
            f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-size="{size}" fill="{color}">{escape(words)}</text>'
        )

    def arrow(self, path: str, *, wide: bool = False, dashed: bool = False, both: bool = False) -> None:
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        start = ' marker-start="url(#tip)"' if both else ""
        self.parts.append(
            f'<path d="{path}" fill="none" stroke="{INK}" stroke-width="{3.5 if wide else 1.5}"{dash}{start} '
            'marker-end="url(#tip)"/>'
        )

    def save(self, name: str) -> None:
        (HERE / name).write_text("\n".join([*self.parts, "</svg>", ""]), "utf-8")


def architecture() -> None:
    drawing = Drawing(860, 400, "Acquisition and viewers are separate processes")
    drawing.frame(20, 20, 300, 360, "acquisition process")
    drawing.box(45, 60, 250, 54, GRAY, "host adapter", "pymmcore-plus, ExEngine, polystore")
    drawing.box(45, 140, 250, 54, BLUE, "StreamingBackend", "filter by extension, axes from names")
    drawing.box(45, 220, 250, 54, BLUE, "Publisher", "claim, copy, announce, account")
    drawing.box(45, 310, 250, 46, GRAY, "keeper thread", "acknowledgements, heartbeats")
    drawing.arrow("M170 114 V138")
    drawing.arrow("M170 194 V218")
    drawing.arrow("M170 308 V276", both=True)
    drawing.box(358, 60, 124, 214, ORANGE, "shared memory", "slot 0", "slot 1", "slot 2", "…", "slot 31", size=13)
    drawing.arrow("M295 247 H355", wide=True)
    drawing.text(339, 296, "pixels", size=12, color=SOFT)
    for at, (name, words) in enumerate((("napari", "a layer per channel"), ("ImageJ / Fiji", "a hyperstack"))):
        y = 20 + at * 185
        drawing.frame(540, y, 300, 175, "viewer process")
        drawing.box(560, y + 35, 115, 54, GREEN, "Source", "check, copy out")
        drawing.box(705, y + 35, 115, 54, GREEN, "Stack", "planes by axes")
        drawing.box(560, y + 108, 260, 50, GREEN, name, words)
        drawing.arrow(f"M675 {y + 62} H703")
        drawing.arrow(f"M762 {y + 89} V{y + 106}")
        drawing.arrow(f"M482 {150 + at * 60} L 556 {y + 62}", wide=True)
    drawing.arrow("M295 333 C 420 333 420 333 470 333 S 520 300 558 282", both=True, dashed=True)
    drawing.arrow("M295 345 C 520 372 500 150 558 92", both=True, dashed=True)
    drawing.text(430, 380, "small messages, ZeroMQ", size=12, color=SOFT)
    drawing.save("architecture.svg")


def frame() -> None:
    drawing = Drawing(860, 430, "The path of one frame, from top to bottom")
    lanes = {"acquisition": 110, "slot": 330, "receiver thread": 550, "window": 760}
    for name, x in lanes.items():
        drawing.box(x - 80, 18, 160, 34, GRAY, name)
        drawing.parts.append(f'<line x1="{x}" y1="52" x2="{x}" y2="412" stroke="{SOFT}" stroke-dasharray="3 5"/>')
    a, s, r, w = lanes.values()
    drawing.arrow(f"M{a} 84 H{s - 4}")
    drawing.text((a + s) / 2, 77, "claim: generation odd")
    drawing.arrow(f"M{a} 124 H{s - 4}", wide=True)
    drawing.text((a + s) / 2, 113, "copy")
    drawing.arrow(f"M{a} 158 H{s - 4}")
    drawing.text((a + s) / 2, 151, "generation even")
    drawing.arrow(f"M{a} 194 H{r - 4}")
    drawing.text((a + s) / 2, 187, "FRAME: slot, generation, axes")
    drawing.text(a, 220, "publish() returns", color=SOFT)
    drawing.arrow(f"M{s} 234 H{r - 4}")
    drawing.text((s + r) / 2, 227, "the same generation?")
    drawing.arrow(f"M{s} 272 H{r - 4}", wide=True)
    drawing.text((s + r) / 2, 261, "copy out")
    drawing.arrow(f"M{s} 306 H{r - 4}")
    drawing.text((s + r) / 2, 299, "still the same?")
    drawing.arrow(f"M{r} 342 H{a + 4}")
    drawing.text((a + s) / 2, 335, "ACK: the slot is free")
    drawing.arrow(f"M{r} 378 H{w - 4}", dashed=True)
    drawing.text((r + w) / 2, 371, "at its own pace")
    drawing.text(w, 400, "paint", color=SOFT)
    drawing.save("frame.svg")


def slot() -> None:
    drawing = Drawing(860, 330, "The states of a slot")
    drawing.box(30, 115, 120, 56, GRAY, "free")
    drawing.box(235, 115, 130, 56, BLUE, "written", "generation odd")
    drawing.box(460, 40, 140, 56, ORANGE, "pending", "no credit yet")
    drawing.box(690, 115, 140, 56, GREEN, "leased", "by viewers")
    drawing.box(460, 200, 140, 56, GREEN, "pinned", "newest of its channel")
    drawing.arrow("M150 143 H231")
    drawing.text(190, 135, "claim")
    drawing.arrow("M365 130 C 400 130 410 75 456 70")
    drawing.text(392, 76, "commit")
    drawing.arrow("M365 158 C 400 158 410 222 456 226")
    drawing.text(384, 212, "commit")
    drawing.arrow("M600 68 C 650 70 670 100 700 113")
    drawing.text(672, 78, "sent")
    drawing.arrow("M600 228 C 650 226 690 200 718 174")
    drawing.text(640, 178, "late joiner")
    drawing.arrow("M460 60 C 340 20 300 60 298 112", dashed=True)
    drawing.text(330, 38, "superseded (latest)", size=12, color=SOFT)
    drawing.arrow("M770 173 C 770 345 90 345 90 174")
    drawing.text(330, 318, "acknowledged, or its viewer is gone")
    drawing.save("slot.svg")


if __name__ == "__main__":
    architecture()
    frame()
    slot()
