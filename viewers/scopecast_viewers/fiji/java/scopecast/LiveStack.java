package scopecast;

import ij.VirtualStack;
import ij.process.ByteProcessor;
import ij.process.ColorProcessor;
import ij.process.FloatProcessor;
import ij.process.ImageProcessor;
import ij.process.ShortProcessor;
import java.awt.EventQueue;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.function.IntFunction;

/**
 * The planes of a live stream as a stack that grows, until a command changes it.
 *
 * It holds no pixels: whatever ImageJ does with the stack (slider, Duplicate, Z Project, Save As), it asks for a plane
 * by number, and gets a copy of what the receiver has in memory, or in its scratch file. So nothing in ImageJ can
 * write into a frame.
 *
 * Commands do change stacks: they delete slices while they convert them, add some, or write into the pixels that they
 * were given. From then on this is a stack like any other, see isChanged: it does not grow any more, and has its
 * own list of slices, in which those that were written into are kept.
 */
public class LiveStack extends VirtualStack {
	private static final long serialVersionUID = 1L;
	private static final long QUIET_NS = 1_000_000_000L;

	/** A slice of a stack that was changed: that of a number, or pixels of its own. */
	private static final class Slice {
		final int number;
		Object pixels;
		String label;

		Slice(int number, Object pixels, String label) {
			this.number = number;
			this.pixels = pixels;
			this.label = label;
		}
	}

	/** What a thread was given last. */
	private static final class Given {
		final Slice slice;
		final int number;
		final Object pixels;
		final int hash;

		Given(Slice slice, int number, Object pixels) {
			this.slice = slice;
			this.number = number;
			this.pixels = pixels;
			this.hash = hash(pixels);
		}

		boolean isWrittenInto() {
			return hash != hash(pixels);
		}
	}

	private final transient IntFunction<Object> planes;
	private final transient IntFunction<Object> labels;
	private final float[] calibration;
	private final transient Map<Thread, Given> given = new HashMap<>();
	private transient List<Slice> own; // null while it is live
	private boolean beginning; // whether a command is about to delete or add the first slice
	private volatile boolean painted; // whether the window has painted what there was to paint before that
	private long edited; // when it did so last, System.nanoTime()
	private int size;
	private volatile double[] range; // of display, as ImageJ has set it last
	private int firstShown;
	private transient Object[] shown = {};

	/**
	 * @param bitDepth 8, 16, 24 (RGB) or 32
	 * @param calibration the table of a 16-bit stack with signed values, or null
	 * @param planes gives a copy of the pixel array of slice n, from 1
	 * @param labels gives the label of slice n, from 1
	 * @param size the number of slices to begin with
	 */
	public LiveStack(int width, int height, int bitDepth, float[] calibration,
			IntFunction<Object> planes, IntFunction<Object> labels, int size) {
		super(width, height, null, "");
		setBitDepth(bitDepth);
		this.calibration = calibration;
		this.planes = planes;
		this.labels = labels;
		this.size = size;
	}

	synchronized void setSize(int size) {
		this.size = size;
	}

	/** Gives the arrays that the window shows, for the slices from a number on: ImageJ need not copy them once more. */
	public synchronized void show(int first, Object[] arrays) {
		firstShown = first;
		shown = arrays;
	}

	/** Whether a command has changed it: its slices, or the pixels of one. */
	public synchronized boolean isChanged() {
		return own != null;
	}

	/** Whether slices are being deleted or added, so that they may not fit the extents of an image. */
	synchronized boolean isBeingEdited(int extent, boolean atWork) {
		boolean lately = System.nanoTime() - edited < QUIET_NS; // a script's thread is known to nobody
		return (beginning || own != null && own.size() != extent) && (atWork || lately);
	}

	/** Whether a command that is about to begin waits for what is yet to be painted. */
	synchronized boolean waitsForPaint() {
		return beginning && !painted;
	}

	/** Notes what was written into the pixels that anyone was given. Returns isChanged. */
	public synchronized boolean lookForChanges() {
		for (Given each : new ArrayList<>(given.values()))
			keepIfWritten(each);
		return own != null;
	}

	/** Takes over pixels that were written into. */
	public synchronized void change(int n, Object pixels) {
		if (n >= 1 && n <= getSize())
			own().get(n - 1).pixels = pixels;
	}

	private List<Slice> own() {
		if (own == null) {
			own = new ArrayList<>(size);
			for (int n = 1; n <= size; n++)
				own.add(new Slice(n, null, null));
		}
		return own;
	}

	/**
	 * Has the window painted what there is to paint, before the first slice goes or comes. Whatever asks an image for its
	 * extents while they do not fit its stack, as painting does, makes it a plain stack.
	 */
	private void begin() {
		synchronized (this) {
			if (own != null)
				return;
			own(); // from now on the receiver leaves the image alone
			beginning = true;
			edited = System.nanoTime();
		}
		if (EventQueue.isDispatchThread()) {
			painted = true;
			return;
		}
		CountDownLatch idle = new CountDownLatch(1);
		EventQueue.invokeLater(() -> {
			painted = true;
			idle.countDown();
		});
		try {
			idle.await(1, TimeUnit.SECONDS); // not for ever: it may be waiting for this thread
		} catch (InterruptedException error) {
			Thread.currentThread().interrupt();
		}
	}

	private void hasEdited() {
		beginning = false;
		edited = System.nanoTime();
	}

	private void keepIfWritten(Given was) {
		if (!was.isWrittenInto())
			return;
		if (was.slice != null)
			was.slice.pixels = was.pixels;
		else if (was.number <= own().size() && own.get(was.number - 1).number == was.number)
			own.get(was.number - 1).pixels = was.pixels;
	}

	private Object give(int n) {
		Slice slice;
		synchronized (this) {
			if (own == null && EventQueue.isDispatchThread() && n >= firstShown && n < firstShown + shown.length
					&& shown[n - firstShown] != null)
				return shown[n - firstShown];
			Thread here = Thread.currentThread();
			lookForChanges();
			given.keySet().removeIf(thread -> thread == here || !thread.isAlive());
			slice = own == null ? null : own.get(n - 1);
			if (slice != null && slice.pixels != null)
				return slice.pixels;
		}
		Object pixels = planes.apply(slice == null ? n : slice.number);
		if (slice != null || !EventQueue.isDispatchThread())
			synchronized (this) {
				given.put(Thread.currentThread(), new Given(slice, n, pixels));
			}
		return pixels;
	}

	private static int hash(Object pixels) {
		if (pixels instanceof byte[])
			return Arrays.hashCode((byte[]) pixels);
		if (pixels instanceof short[])
			return Arrays.hashCode((short[]) pixels);
		if (pixels instanceof int[])
			return Arrays.hashCode((int[]) pixels);
		return Arrays.hashCode((float[]) pixels);
	}

	@Override
	public void update(ImageProcessor ip) {
		super.update(ip);
		if (ip != null)
			range = new double[] {ip.getMin(), ip.getMax()};
	}

	@Override
	public ImageProcessor getProcessor(int n) {
		int count = getSize();
		if (n < 1 || n > count)
			throw new IllegalArgumentException("slice " + n + " is not one of the stack's " + count);
		Object pixels = give(translate(n));
		int width = getWidth(), height = getHeight();
		ImageProcessor ip;
		if (pixels instanceof byte[])
			ip = new ByteProcessor(width, height, (byte[]) pixels, getColorModel());
		else if (pixels instanceof short[])
			ip = new ShortProcessor(width, height, (short[]) pixels, getColorModel());
		else if (pixels instanceof int[])
			ip = new ColorProcessor(width, height, (int[]) pixels);
		else
			ip = new FloatProcessor(width, height, (float[]) pixels, getColorModel());
		if (range != null && !(ip instanceof ColorProcessor))
			ip.setMinAndMax(range[0], range[1]);
		if (calibration != null)
			ip.setCalibrationTable(calibration);
		ip.setSliceNumber(n);
		return ip;
	}

	@Override
	public synchronized int getSize() {
		return own == null ? size : own.size();
	}

	@Override
	public int size() {
		return getSize();
	}

	@Override
	public String getSliceLabel(int n) {
		Slice slice = null;
		synchronized (this) {
			if (n < 1 || n > getSize())
				return null;
			n = translate(n);
			if (own != null)
				slice = own.get(n - 1);
		}
		if (slice == null)
			return (String) labels.apply(n);
		return slice.label != null || slice.number == 0 ? slice.label : (String) labels.apply(slice.number);
	}

	@Override
	public synchronized void setSliceLabel(String label, int n) {
		own().get(translate(n) - 1).label = label;
	}

	@Override
	public String getFileName(int n) {
		return getSliceLabel(n);
	}

	@Override
	public String getDirectory() {
		return null;
	}

	@Override
	public synchronized void setPixels(Object pixels, int n) {
		// ImageJ calls this whenever it leaves a slice, too, with the pixels that it shows.
		for (Given each : given.values())
			if (each.pixels == pixels) {
				keepIfWritten(each);
				return;
			}
		if (own != null)
			change(n, pixels);
	}

	@Override
	public void setProcessor(ImageProcessor ip, int n) {
		change(n, ip.getPixels());
	}

	@Override
	public void addSlice(String name) {
	}

	@Override
	public void addSlice(String label, Object pixels) {
		begin();
		synchronized (this) {
			own.add(new Slice(0, pixels, label));
			hasEdited();
		}
	}

	@Override
	public void addSlice(String label, ImageProcessor ip) {
		addSlice(label, ip, getSize());
	}

	@Override
	public void addSlice(String label, ImageProcessor ip, int n) {
		if (ip.getWidth() != getWidth() || ip.getHeight() != getHeight())
			throw new IllegalArgumentException("Dimensions do not match");
		begin();
		synchronized (this) {
			own.add(n, new Slice(0, ip.getPixels(), label));
			hasEdited();
		}
	}

	@Override
	public void deleteSlice(int n) {
		if (n < 1 || n > getSize())
			throw new IllegalArgumentException("slice " + n + " is not one of the stack's " + getSize());
		begin();
		synchronized (this) {
			own.remove(n - 1);
			hasEdited();
		}
	}

	@Override
	public void reduce(int factor) {
		begin();
		synchronized (this) {
			List<Slice> kept = new ArrayList<>();
			for (int n = 0; n < own.size(); n += factor)
				kept.add(own.get(n));
			own = kept;
			hasEdited();
		}
	}

	@Override
	public synchronized void setIndexes(int[] indexes) {
		own();
		super.setIndexes(indexes);
	}
}
