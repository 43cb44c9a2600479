"""Plugins ▸ scopecast: a list of the live streams, to open again what was closed, and following for all images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scopecast_viewers.fiji.awt import java, listener
from scopecast_viewers.fiji.sending import Sending
from scopecast_viewers.receiving.status import figures_of, sources_of, state_of

if TYPE_CHECKING:
    from scopecast_viewers.fiji.gallery import Gallery, StreamKey
    from scopecast_viewers.receiver import Receiver
    from scopecast_viewers.receiving.live import LiveStream

__all__ = ["StreamMenu"]

#: What the entry is called while no recorder keeps anything.
_KEEP = "Keep the last seconds"


class StreamMenu:
    """The menu entries, and the window with the list. Used on ImageJ's window thread only.

    Parameters
    ----------
    gallery
        The images.
    receiver
        Where the streams come from.

    Attributes
    ----------
    menu : java.awt.Menu
        The entries.
    sending : Sending
        Sends regions to the acquisition.
    """

    def __init__(self, gallery: Gallery, receiver: Receiver) -> None:
        self._gallery, self._receiver = gallery, receiver
        self._rows: dict[StreamKey, Any] = {}  # the checkbox of each stream
        self.window: Any = None
        self._note: Any = None
        self._told = ""
        self.sending = Sending(gallery, receiver)
        self.menu = java("java.awt.Menu")("scopecast")
        entries = {
            "Live streams": self.open,
            "Follow the newest frames": gallery.follow,
            "Auto contrast": gallery.automatic_contrast,
            "Auto contrast of this channel": gallery.automatic_contrast_here,
            "Send to acquisition": self.sending.send,
            _KEEP: self._keep,
        }
        for text, work in entries.items():
            item = java("java.awt.MenuItem")(text)
            item.addActionListener(
                listener("java.awt.event.ActionListener", actionPerformed=lambda _, work=work: work())
            )
            self.menu.add(item)
        self._send, self._keeping = map(self.menu.getItem, range(len(entries) - 2, len(entries)))
        self._offer()
        switches = {"Freeze": gallery.freeze, "Mark saturated pixels red": gallery.mark_saturation}
        for text, switch in switches.items():
            box = java("java.awt.CheckboxMenuItem")(text)
            box.addItemListener(
                listener(
                    "java.awt.event.ItemListener",
                    itemStateChanged=lambda event, switch=switch: switch(event.getStateChange() == event.SELECTED),
                )
            )
            self.menu.add(box)
        self._hang()

    def _hang(self) -> None:
        """See to it that the entries are in the menu Plugins: ImageJ makes its menus anew (Help > Refresh Menus)."""
        plugins = _menu_named("Plugins")
        if plugins is not None and self.menu.getParent() != plugins:
            plugins.add(self.menu)

    def _offer(self) -> None:
        """Offer what another program does, while there is one: to take marks, to keep the last seconds."""
        self._send.setEnabled(self.sending.offered)
        keepers = self._receiver.keepers
        text = f"Keep the last {keepers[-1].host}" if keepers else _KEEP
        if text != str(self._keeping.getLabel()):
            self._keeping.setLabel(text)
        self._keeping.setEnabled(bool(keepers))
        for told in self._receiver.kept():
            java("ij.IJ").showStatus(f"scopecast: {told}")

    def _keep(self) -> None:
        _, told = self._receiver.keep()
        java("ij.IJ").showStatus(f"scopecast: {told}")

    def open(self) -> None:
        """Open the list, or bring it to the front."""
        if self.window is None:
            window = self.window = java("java.awt.Frame")("Live streams")
            window.setLayout(java("java.awt.GridLayout")(0, 1, 0, 2))
            window.setFont(java("java.awt.Font")("SansSerif", 0, 13))
            window.setBackground(java("java.awt.Color")(245, 245, 245))
            window.addWindowListener(listener("java.awt.event.WindowListener", windowClosing=lambda _: self.close()))
            self._note = java("java.awt.Label")()
            window.add(self._note)
            java("ij.gui.GUI").centerOnImageJScreen(window)
        self.update()
        self.window.pack()
        self.window.setVisible(True)
        self.window.toFront()

    def update(self) -> None:
        """Bring the list up to date, if it is open, and say in ImageJ's status bar why frames can't be shown."""
        self._hang()
        self._offer()
        found = [f"{each.entry.title}: {each.problem}" for each in self._receiver.sources if each.problem]
        problems = "; ".join((*found, *((self._receiver.problem,) if self._receiver.problem else ())))
        if problems != self._told:
            if problems:
                java("ij.IJ").showStatus(f"scopecast: {problems}")
            elif _status() == f"scopecast: {self._told}":  # ImageJ, or we, may have told something newer
                java("ij.IJ").showStatus("")
            self._told = problems
        if self.window is None:
            return
        streams = [stream for stream in self._receiver.streams if stream.stacks]
        keys = {stream.key for stream in streams}
        size = len(self._rows)
        for key in [key for key in self._rows if key not in keys]:
            self.window.remove(self._rows.pop(key))
            size = -1
        for stream in streams:
            box = self._rows.get(stream.key)
            if box is None:
                box = self._rows[stream.key] = java("java.awt.Checkbox")()
                box.addItemListener(
                    listener(
                        "java.awt.event.ItemListener",
                        # What the event says: an update may have put the box back by now.
                        itemStateChanged=lambda event, key=stream.key: self._choose(
                            key, event.getStateChange() == event.SELECTED
                        ),
                    )
                )
                self.window.add(box)
            text = self._describe(stream)
            if text != str(box.getLabel()):
                box.setLabel(text)
            box.setState(stream.key not in self._gallery.closed)
        note = "Ticked streams are shown." if streams else "Nothing is streaming to this ImageJ yet."
        note = problems or note
        if note != str(self._note.getText()):
            self._note.setText(note)
            size = -1
        if size != len(self._rows):
            self.window.pack()

    def _describe(self, stream: LiveStream) -> str:
        sources = sources_of(stream, self._receiver.sources)
        title = stream.about.title or stream.title
        problems = [self._gallery.problems[stack] for stack in stream.stacks if stack in self._gallery.problems]
        return f"{title}  ({state_of(stream)}): {', '.join([*problems, *figures_of(stream, sources)])}"

    def _choose(self, key: StreamKey, shown: bool) -> None:
        if shown:
            self._gallery.reopen(key)
        else:
            self._gallery.hide(key)

    def close(self) -> None:
        """Close the list."""
        window, self.window = self.window, None
        self._rows.clear()
        if window is not None:
            window.dispose()

    def remove(self) -> None:
        """Take the entries out of ImageJ's menu, and close the list."""
        self.close()
        if self.menu.getParent() is not None:
            self.menu.getParent().remove(self.menu)


def _menu_named(label: str) -> Any:
    bar = java("ij.Menus").getMenuBar()
    menus = [] if bar is None else [bar.getMenu(number) for number in range(bar.getMenuCount())]
    return next((menu for menu in menus if str(menu.getLabel()) == label), None)


def _status() -> str:
    """Return what ImageJ's status bar says."""
    window = java("ij.IJ").getInstance()
    return "" if window is None else str(window.getStatusBar().getComponent(0).getText())
