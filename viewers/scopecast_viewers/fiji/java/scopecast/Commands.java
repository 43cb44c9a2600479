package scopecast;

import ij.CommandListener;
import ij.Executer;
import ij.IJ;
import ij.ImagePlus;
import ij.Macro;
import ij.WindowManager;
import java.awt.EventQueue;
import java.util.HashMap;
import java.util.Map;
import java.util.Set;
import java.util.function.Function;

/**
 * Which commands are at work, and on which image: those of the menus, and those that Modules tells of.
 *
 * A command reads the extents of its image at one moment and its slices at others, while its dialog is open or the file
 * is written. Not all commands lock their image, so a live image asks here before it grows. Whoever lets one grow holds
 * this class's monitor meanwhile: a command that is just starting waits for it, see commandExecuting.
 */
public final class Commands implements CommandListener {
	private static final Map<Object, Commands> WORKING = new HashMap<>(); // by their threads, or by what runs
	/** Those that write a file of what the image holds. */
	private static final Set<String> SAVING = Set.of("Save", "Tiff...", "ZIP...", "Raw Data...", "Image Sequence...",
		"AVI...", "Gif...", "Jpeg...", "PNG...", "BMP...", "PGM...", "FITS...", "Text Image...", "OME-TIFF...",
		"Bio-Formats Exporter");
	private static Commands listener;
	private static Function<ImagePlus, String> objection;
	private static Commands last = new Commands("", null);
	private final String name;
	private final ImagePlus image;

	private Commands(String name, ImagePlus image) {
		this.name = name;
		this.image = image;
	}

	/**
	 * Begins to listen, once.
	 *
	 * @param objection returns why an image must not be saved now, or ""
	 */
	public static synchronized void watch(Function<ImagePlus, String> objection) {
		Commands.objection = objection;
		if (listener == null)
			Executer.addCommandListener(listener = new Commands("", null));
	}

	/** Returns the name of a command that is at work on an image, or null. */
	public static synchronized String on(ImagePlus image) {
		WORKING.keySet().removeIf(each -> each instanceof Thread && !((Thread) each).isAlive());
		for (Commands each : WORKING.values())
			if (each.image == image)
				return each.name;
		return null;
	}

	/** Returns the name of the command that began last, if that was on an image, or "". */
	public static synchronized String last(ImagePlus image) {
		return last.image == image ? last.name : "";
	}

	/** Returns the name of the command that closes an image at this moment, or "" if it is none. */
	static synchronized String closing(ImagePlus image) {
		String working = on(image);
		return working != null ? working : IJ.macroRunning() ? last(image) : "";
	}

	/** Notes that something begins to work on the current image, until it has ended. */
	static synchronized void began(Object what, String name) {
		ImagePlus current = WindowManager.getCurrentImage();
		if (current != null)
			WORKING.put(what, last = new Commands(name, current));
	}

	/** Notes that it has ended; what has not begun may end, too. */
	static synchronized void ended(Object what) {
		WORKING.remove(what);
	}

	@Override
	public String commandExecuting(String command) {
		ImagePlus current = WindowManager.getCurrentImage();
		String reason = current != null && SAVING.contains(command) ? objection.apply(current) : "";
		if (!reason.isEmpty()) {
			// ImageJ asks its listeners one command after the other: a dialog here would hold up all that come after it.
			EventQueue.invokeLater(() -> IJ.showMessage("Not saved", reason));
			if (Thread.currentThread().getName().endsWith("Macro$"))
				Macro.abort();
			return null;
		}
		synchronized (Commands.class) {
			// A thread of a macro or a script, which may go on for ever after the command, is known to IJ.macroRunning.
			if (current != null)
				last = new Commands(command, current);
			if (current != null && hasOwnThread())
				WORKING.put(Thread.currentThread(), last);
		}
		return command;
	}

	/** Whether the command has a thread of its own, which ends with it. */
	private static boolean hasOwnThread() {
		StackTraceElement[] calls = Thread.currentThread().getStackTrace();
		for (int i = 0; i + 1 < calls.length; i++)
			if (calls[i].getClassName().equals("ij.Executer") && calls[i].getMethodName().equals("run"))
				return calls[i + 1].getClassName().equals("java.lang.Thread");
		return false;
	}
}
