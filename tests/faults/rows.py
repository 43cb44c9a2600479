"""The table of faults: what can go wrong, and what happens then. Each row is proved by the tests that name it.

A test names its rows by ``@pytest.mark.fault("V1", …)``; ``docs/fault_matrix.py`` writes the table that the
documentation shows, and ``test_matrix.py`` fails where a row has no test.
"""

from typing import NamedTuple


class Row(NamedTuple):
    """A fault.

    Attributes
    ----------
    fault
        What goes wrong.
    promise
        What happens then.
    """

    fault: str
    promise: str


PARTS = {
    "V": "The viewer",
    "P": "The producer",
    "R": "The machine",
    "D": "The frames",
    "S": "Programs that subscribe",
    "W": "Watching from another machine",
    "H": "Hostile or mistaken peers",
}

ROWS = {
    "V1": Row(
        "is killed in the middle of a frame",
        "The producer notices at once, frees what it held and counts it as dropped; other viewers miss nothing.",
    ),
    "V2": Row(
        "is stopped, or freezes",
        "It is treated as lost within 2 s, and its slots are reused. When it wakes, it discards what it had half "
        "read, and is served again.",
    ),
    "V3": Row(
        "has a window that hangs",
        "Frames go on into its stacks, and nothing is lost; the counts show that nothing is painted. The newest "
        "is painted as soon as the window responds.",
    ),
    "V4": Row(
        "is slow",
        "It is sent the newest frame of each channel; those before it are superseded, and counted. A faster viewer "
        "beside it gets all of them.",
    ),
    "V5": Row(
        "is closed by the user",
        "It says goodbye: one line in the log, no error; the producer goes on, and opens no other unless asked.",
    ),
    "V6": Row(
        "can't be started, crashes while it starts, or never becomes ready",
        "One warning with the last lines of its log; three attempts, at growing intervals. If none can succeed "
        "(no screen, not installed) none is made. Receipts and `problem` say why.",
    ),
    "V7": Row(
        "speaks another version of the protocol",
        "It is refused, with a message that says which side to update; the producer goes on. Fields that a newer "
        "version added are ignored.",
    ),
    "V8": Row(
        "floods the producer with messages, or comes in great numbers",
        "The producer reads a bounded number at a time, and serves at most 16 viewers; frames flow to the others.",
    ),
    "V9": Row(
        "acknowledges what it was never sent, or twice",
        "Ignored: an acknowledgement counts once, for the frame, slot and ring that were leased to that viewer.",
    ),
    "P1": Row(
        "is killed while it writes a frame",
        "The half-written frame is never shown; viewers keep the last good image and say that the source is lost.",
    ),
    "P2": Row(
        "ends without `close()`",
        "What is in flight arrives, and everything is removed at exit; after `os._exit` the next run or "
        "`scopecast clean` does so.",
    ),
    "P3": Row(
        "is killed at any step of opening, or its whole process group is",
        "At most the segments named in its entry are left; the next run or `scopecast clean` removes them.",
    ),
    "P4": Row(
        "forks",
        "In the child the publisher is inert: it raises, and neither its use nor the child's end affects the parent's.",
    ),
    "P5": Row(
        "raises while a frame is written",
        "That frame is not announced, its slot is given back, and all others are intact.",
    ),
    "P6": Row(
        "runs twice under one title",
        "Both are live and kept apart; lists show them as “name” and “name (2)”.",
    ),
    "P7": Row(
        "has left segments, sockets and files of a run that died",
        "The next program that starts removes them, once, however many clean up together; never those of a live one.",
    ),
    "P8": Row(
        "has died, and another process got its process id",
        "It counts as dead: a lock that the system frees shows who is alive, never a process id.",
    ),
    "P9": Row(
        "is restarted while the viewer stays open",
        "The viewer releases the old memory and attaches to the new; nothing of the old run is mistaken for the new, "
        "and nothing accumulates.",
    ),
    "P10": Row(
        "publishes from several threads",
        "Every frame has its own slot and number, and all are accounted for.",
    ),
    "P11": Row(
        "is interrupted (Ctrl-C), or its interpreter ends, inside `publish()`",
        "No hang, one traceback; no slot or lock is lost at any point of interruption, and publishing can go on.",
    ),
    "P12": Row(
        "has its run directory and shared-memory names removed (logout)",
        "Attached viewers miss nothing; the names are made again at the next heartbeat, so that new viewers find it.",
    ),
    "P13": Row(
        "is one of eight workers that open at once without a viewer",
        "One viewer is started, and shows the streams of all.",
    ),
    "P14": Row(
        "ends while marks of a user wait for it",
        "They are refused, and the user is told; so it is if the program dies. A loop that waits for marks ends.",
    ),
    "P15": Row(
        "has crashed or was killed, and its last frames are wanted",
        "They stay in shared memory for ten minutes, within a bound, unless a viewer has them. `scopecast recover` "
        "makes files of them, and of all that viewers have of it.",
    ),
    "R1": Row(
        "/dev/shm is full",
        "One warning that says what is needed and what is free; the acquisition goes on, its frames count as skipped. "
        "It is retried at growing intervals, and a ring that can't grow goes on with the slots it has.",
    ),
    "R2": Row(
        "/dev/shm fills up later",
        "Nothing happens to a stream: all of its pages were reserved when it opened.",
    ),
    "R3": Row(
        "no file descriptors are left",
        "Opening fails cleanly, with one warning; a running stream goes on, even while a viewer tries to connect.",
    ),
    "R4": Row(
        "no address space is left where a viewer attaches",
        "The viewer reports it; the producer's segment stays.",
    ),
    "R5": Row(
        "a frame is larger than a slot, or than the budget",
        "Larger slots are made within the budget, and under `every` nothing is lost in the process; a frame beyond "
        "the budget is skipped, with one warning that names both sizes.",
    ),
    "R6": Row(
        "a frame is empty, or a single number",
        "An empty one is skipped and counted; a number is an image of one pixel.",
    ),
    "R7": Row(
        "another program truncates the segment",
        "Producer and viewer check before each copy: the viewer skips the frame, the producer makes a new "
        "segment. (Only a truncation during the copy itself is not survived; the producer serves the next viewer.)",
    ),
    "R8": Row(
        "a file is truncated while the producer reads it",
        "It is reported and tried again: files that other programs write are read, never mapped.",
    ),
    "R9": Row(
        "a file is truncated that is to be shown",
        "An error that names the file and the sizes; never a crash, never half an image.",
    ),
    "R10": Row(
        "the machine sleeps, or its clock is set",
        "No viewer is treated as lost because of it: durations are taken from the monotonic clock only.",
    ),
    "R11": Row(
        "the viewer's memory and scratch disk are full, or the disk is slow",
        "The oldest planes are forgotten, counted, and shown as gaps; the receiver never stops taking frames.",
    ),
    "D1": Row(
        "strided, Fortran-ordered, broadcast, reversed or read-only arrays",
        "They arrive as they are: one copy takes any layout.",
    ),
    "D2": Row("arrays in foreign byte order", "They arrive with the same values in native order."),
    "D3": Row(
        "dtypes that no viewer can show",
        "An error at `publish()` that names the dtype and what to convert it to; host adapters count it as skipped.",
    ),
    "D4": Row(
        "NaN and infinities",
        "Contrast comes from the finite values; an image without any is shown between 0 and 1.",
    ),
    "D5": Row(
        "a frame is overwritten while it is read",
        "Never shown: its generation is compared before and after the copy.",
    ),
    "D6": Row(
        "shape or dtype change in the middle of a stream",
        "A new layer of the same stream; the old one stays.",
    ),
    "S1": Row(
        "is killed while it looks at a frame",
        "Its slots are free at once, what it has replied stays shown, and its memory is removed; viewers miss nothing.",
    ),
    "S2": Row(
        "is stopped, or does not answer for too long",
        "It loses its frame: the array raises, and never shows another. When it wakes it is told, and served again.",
    ),
    "S3": Row(
        "floods the stream with replies, or replies what can't be shown",
        "Eight of them are on their way at a time; they take no slot from a frame, and count by themselves. What can't "
        "be shown is refused, with the reason.",
    ),
    "S4": Row(
        "takes longer for a frame than the camera",
        "It gets the newest of each channel; those before it are superseded, and counted. It holds up neither the "
        "acquisition nor other programs and viewers.",
    ),
    "S5": Row(
        "is one of several beside several viewers",
        "Each gets every frame, in every run of the source.",
    ),
    "S6": Row(
        "has a source that is killed and started again",
        "The frame that it looks at stays as it is; its loop goes on with the next run.",
    ),
    "W1": Row(
        "the connection breaks, or ssh is killed",
        "It comes back by itself, with growing pauses; the run goes on in the same layers, and what has come meanwhile "
        "is sent.",
    ),
    "W2": Row(
        "the relay is killed",
        "The acquisition goes on. Another relay is started with the next connection, and the run goes on in the same "
        "layers; what only the dead one had is lost.",
    ),
    "W3": Row(
        "the link is too slow for all pixels",
        "The newest frames come in the quality that it allows, and say that they are previews; they get no older. "
        "Exact pixels follow as soon as nothing new comes; until then previews are neither saved nor copied.",
    ),
    "W4": Row(
        "who watches is stopped",
        "Two frames wait for it. The acquisition, the relay and others who watch go on; when it wakes it is sent what "
        "it lacks.",
    ),
    "W5": Row(
        "two machines watch each other",
        "What comes back to the machine that it is from is neither shown nor sent again.",
    ),
    "W6": Row(
        "ssh is refused, or scopecast is not there",
        "One line says so, and what to do.",
    ),
    "W7": Row(
        "a stranger, or a link that was used or has expired, at the port of `scopecast share`",
        "Refused before anything is read; who is revoked is parted at once.",
    ),
    "W8": Row(
        "a guest that reads nothing, acknowledges what it has not got, or sends messages without end",
        "It is sent no more, and then parted, in bounded memory; other desks and the acquisition go on.",
    ),
    "W9": Row(
        "`scopecast connect` is killed, or ends, and is started again",
        "The runs go on in the same layers, and no frame counts twice; what comes by two ways is shown once.",
    ),
    "H1": Row("garbage, HTTP, or half a greeting at the socket", "Closed or ignored; frames flow to the viewers."),
    "H2": Row("a message that is too large", "Not taken in; the connection that sent it is closed."),
    "H3": Row(
        "offsets, slots and sizes outside the segment",
        "A message carries a slot's number only, which is checked against the header that the viewer validated.",
    ),
    "H4": Row(
        "names with `..`, slashes, NUL, line ends, 300 letters",
        "Refused: scopecast's names have one form, and nothing else is opened or unlinked.",
    ),
    "H5": Row(
        "messages that claim huge counts, or nest without end",
        "An immediate error, in bounded memory; the message is ignored and counted.",
    ),
    "H6": Row("pickles and other code in messages", "Nothing that is received can run: the source has no such call."),
    "H7": Row(
        "a ROI archive that unpacks to more than the memory",
        "Entries, their number and their sizes have limits; past one of them the archive is refused with the reason.",
    ),
    "H8": Row("another user of the machine connects over TCP", "Refused: without the keys there is no connection."),
    "H9": Row("another user opens or unlinks the shared memory", "Refused by the system: it is private to this user."),
    "H10": Row(
        "another user took a segment's name first",
        "Never mapped: names are random and created exclusively, and owner and mode are checked before use.",
    ),
    "H11": Row(
        "the run directory is a link, another user's, or open to others",
        "Refused, with the fix: anyone who can write there could inject frames.",
    ),
    "H12": Row(
        "marks for a program that does not ask for them, of another program's frame, or of a stale one",
        "Refused with the reason. Nothing is moved or acquired but by the program that took them.",
    ),
    "H13": Row(
        "marks that are too many, or no numbers",
        "An error in the viewer that says how many may be sent, and nothing is sent or lost; a peer that sends them "
        "all the same is ignored and counted.",
    ),
    "H14": Row(
        "garbage, messages of others, or far too large ones, at a relay",
        "Ignored, or the connection is closed; frames flow to those who watch.",
    ),
    "H15": Row(
        "a relay that sends damaged frames, or other sizes than it says",
        "Refused before memory is allocated, counted, and told; the next frame is shown.",
    ),
}
