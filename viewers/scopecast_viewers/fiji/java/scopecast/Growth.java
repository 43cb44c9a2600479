package scopecast;

import ij.ImagePlus;
import ij.gui.ImageWindow;
import ij.gui.ScrollbarWithLabel;
import ij.gui.StackWindow;
import java.lang.reflect.Field;
import java.lang.reflect.Method;

/**
 * Makes an open image longer, in its window.
 *
 * ImageJ's own setStack(stack, c, z, t) opens a new window whenever an extent changes, and goes back to the first
 * slice. What is set here instead are the three extents of the image and of its window, which have no setters.
 */
public final class Growth {
	private static final String[] EXTENTS = {"nChannels", "nSlices", "nFrames"};
	private static final Field STACK = field(ImagePlus.class, "stack");
	private static final Field SLICE = field(ImagePlus.class, "currentSlice");
	private static final Field[] OF_IMAGE = fields(ImagePlus.class);
	private static final Field[] OF_WINDOW = fields(StackWindow.class);

	private Growth() {
	}

	/** Whether an image has the stack that it was given, and no command has changed it. */
	public static boolean isLive(ImagePlus imp, LiveStack stack) throws ReflectiveOperationException {
		return STACK.get(imp) == stack && !stack.isChanged() && imp.getWidth() == stack.getWidth()
			&& imp.getHeight() == stack.getHeight();
	}

	/** Whether it has the extents that it was given, too. */
	public static boolean isLive(ImagePlus imp, LiveStack stack, int channels, int slices, int frames)
			throws ReflectiveOperationException {
		return isLive(imp, stack) && OF_IMAGE[0].getInt(imp) == channels && OF_IMAGE[1].getInt(imp) == slices
			&& OF_IMAGE[2].getInt(imp) == frames;
	}

	/**
	 * Whether a command is in the midst of deleting or adding slices: the extents of the image do not fit its stack. To
	 * paint it now, or to ask it where its sliders stand, would have ImageJ repair the extents and move the sliders, and
	 * write the plane that is shown into another slice.
	 */
	public static boolean isHalfway(ImagePlus imp, LiveStack stack) throws ReflectiveOperationException {
		if (STACK.get(imp) != stack)
			return false;
		int size = 1;
		for (Field each : OF_IMAGE)
			size *= each.getInt(imp);
		return stack.isBeingEdited(size, imp.isLocked() || Commands.on(imp) != null);
	}

	/** Whether a window or a canvas must not ask an image for anything now: the same, but for what the command waits for. */
	static boolean isHalfway(ImagePlus imp) {
		try {
			Object stack = STACK.get(imp);
			return stack instanceof LiveStack && !((LiveStack) stack).waitsForPaint() && isHalfway(imp, (LiveStack) stack);
		} catch (ReflectiveOperationException error) {
			throw new IllegalStateException(error); // not possible: the fields are accessible
		}
	}

	/** Returns the slice that is selected, from 1. imp.getCurrentSlice() would select another in the midst of a command. */
	public static int slice(ImagePlus imp) throws ReflectiveOperationException {
		return Math.max(1, SLICE.getInt(imp));
	}

	/**
	 * Takes over new extents, and maybe another stack. To be called on the AWT thread, with an image that is live;
	 * afterwards the caller sets the position, and packs the window if this returns true: its sliders are others now.
	 */
	public static boolean grow(ImagePlus imp, LiveStack stack, int channels, int slices, int frames)
			throws ReflectiveOperationException {
		int[] extents = {channels, slices, frames};
		// Other threads (macros) look at the extents too, and take a hyperstack whose extents do not fit its size for
		// a plain stack: nothing may come in between here.
		imp.setOpenAsHyperStack(true);
		STACK.set(imp, stack);
		stack.setSize(channels * slices * frames);
		for (int i = 0; i < 3; i++)
			OF_IMAGE[i].setInt(imp, extents[i]);
		ImageWindow window = imp.getWindow();
		return window instanceof StackWindow && stretch(imp, (StackWindow) window, extents);
	}

	private static boolean stretch(ImagePlus imp, StackWindow window, int[] extents) throws ReflectiveOperationException {
		Field[] bars = {field(StackWindow.class, "cSelector"), field(StackWindow.class, "zSelector"),
			field(StackWindow.class, "tSelector")};
		// With one slider that is not the channels', the window is one of a plain stack: all planes along z.
		boolean plain = extents[0] == 1 && (extents[1] == 1 || extents[2] == 1);
		int[] shown = plain ? new int[] {1, extents[1] * extents[2], 1} : extents;
		boolean same = field(StackWindow.class, "hyperStack").getBoolean(window) != plain;
		for (int i = 0; i < 3; i++)
			same &= (bars[i].get(window) != null) == (shown[i] > 1);
		if (!same) {
			Method addScrollbars = StackWindow.class.getDeclaredMethod("addScrollbars", ImagePlus.class);
			addScrollbars.setAccessible(true);
			for (Field each : OF_WINDOW)
				each.setInt(window, 1);
			addScrollbars.invoke(window, imp);
			for (String each : new String[] {"c", "z", "t"}) // where the new sliders stand
				field(StackWindow.class, each).setInt(window, 1);
			return true;
		}
		for (int i = 0; i < 3; i++) {
			OF_WINDOW[i].setInt(window, shown[i]);
			ScrollbarWithLabel bar = (ScrollbarWithLabel) bars[i].get(window);
			if (bar != null && bar.getMaximum() != shown[i] + 1) {
				bar.setMaximum(shown[i] + 1);
				bar.setBlockIncrement(i == 0 ? 1 : Math.max(1, shown[i] / 10));
			}
		}
		return false;
	}

	private static Field[] fields(Class<?> type) {
		Field[] found = new Field[3];
		for (int i = 0; i < 3; i++)
			found[i] = field(type, EXTENTS[i]);
		return found;
	}

	static Field field(Class<?> type, String name) {
		try {
			Field found = type.getDeclaredField(name);
			found.setAccessible(true);
			return found;
		} catch (NoSuchFieldException error) {
			throw new IllegalStateException("this ImageJ has no field " + error.getMessage(), error);
		}
	}
}
