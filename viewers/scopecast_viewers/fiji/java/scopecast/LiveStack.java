package scopecast;

import ij.IJ;
import ij.VirtualStack;
import ij.process.ByteProcessor;
import ij.process.ColorProcessor;
import ij.process.FloatProcessor;
import ij.process.ImageProcessor;
import ij.process.ShortProcessor;
import java.util.function.IntFunction;

/**
 * The planes of a live stream as a stack that grows.
 *
 * It holds no pixels: whatever ImageJ does with the stack (slider, Duplicate, Z Project, Save As), it asks for a plane
 * by number, and the receiver gives the array from memory, or reads it back from its scratch file.
 */
public class LiveStack extends VirtualStack {
	private final IntFunction<Object> planes;
	private final IntFunction<Object> labels;
	private final float[] calibration;
	private volatile int size;

	/**
	 * @param bitDepth 8, 16, 24 (RGB) or 32
	 * @param calibration the table of a 16-bit stack with signed values, or null
	 * @param planes gives the pixel array of slice n, from 1
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

	void setSize(int size) {
		this.size = size;
	}

	@Override
	public ImageProcessor getProcessor(int n) {
		if (n < 1 || n > size)
			throw new IllegalArgumentException("slice " + n + " is not one of the stack's " + size);
		Object pixels = planes.apply(n);
		int width = getWidth(), height = getHeight();
		ImageProcessor ip;
		if (pixels instanceof byte[])
			ip = new ByteProcessor(width, height, (byte[]) pixels, null);
		else if (pixels instanceof short[])
			ip = new ShortProcessor(width, height, (short[]) pixels, null);
		else if (pixels instanceof int[])
			ip = new ColorProcessor(width, height, (int[]) pixels);
		else
			ip = new FloatProcessor(width, height, (float[]) pixels, null);
		if (calibration != null)
			ip.setCalibrationTable(calibration);
		ip.setSliceNumber(n);
		return ip;
	}

	@Override
	public int getSize() {
		return size;
	}

	@Override
	public int size() {
		return size;
	}

	@Override
	public String getSliceLabel(int n) {
		return n < 1 || n > size ? null : (String) labels.apply(n);
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
	public void addSlice(String name) {
	}

	@Override
	public void deleteSlice(int n) {
		IJ.error("Live stream", "The slices of a live stream can't be deleted. Duplicate it, and delete those of the copy.");
	}

	@Override
	public void reduce(int factor) {
		deleteSlice(1);
	}
}
