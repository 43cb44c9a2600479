package scopecast;

import ij.CompositeImage;
import ij.IJ;
import ij.ImagePlus;
import ij.gui.ImageCanvas;
import ij.process.ImageProcessor;
import java.awt.Graphics;
import java.awt.Image;
import java.lang.reflect.Field;
import java.util.Arrays;
import java.util.function.Consumer;

/**
 * A canvas that tells which pixels it has painted.
 *
 * ImageJ keeps a picture of an image, which it makes of its ImageProcessors, and paints that: an image whose
 * processors have new pixels may go on showing the old picture. So whoever gives it pixels gives them here, and is told
 * of those only that the picture was made of.
 */
public class LiveCanvas extends ImageCanvas {
	private static final long serialVersionUID = 1L;
	private static final Field IMAGE = Growth.field(ImagePlus.class, "img");
	private static final Field CHANNELS = Growth.field(ImagePlus.class, "nChannels");
	private static final Field COMPOSED = Growth.field(CompositeImage.class, "awtImage");
	private static final Field DRAWN = Growth.field(ImageProcessor.class, "image");
	private final transient Consumer<boolean[]> painted;
	private transient Object[] pixels = {};
	private String closer = "";

	public LiveCanvas(ImagePlus imp, Consumer<boolean[]> painted) {
		super(imp);
		this.painted = painted;
	}

	/** The command that was at work on the image when the canvas left its window; or "". */
	public String closer() {
		return closer;
	}

	/**
	 * Puts pixels into the image, and has them painted. To be called on the AWT thread.
	 *
	 * @param stack the live stack
	 * @param number the slice that is selected
	 * @param arrays the pixels of each channel; null for those that are not shown
	 * @param changed whether to paint it in any case
	 * @return false if the image shows another slice, or is not ours any more
	 */
	public boolean show(LiveStack stack, int number, Object[] arrays, boolean changed)
			throws ReflectiveOperationException {
		synchronized (imp) { // as setSlice does: a macro may be moving the sliders at this moment
			if (!Growth.isLive(imp, stack) || Growth.slice(imp) != number)
				return false;
			boolean several = isComposite();
			changed |= put(imp.getProcessor(), arrays[(number - 1) % arrays.length]);
			for (int channel = 0; several && channel < arrays.length; channel++)
				changed |= put(((CompositeImage) imp).getProcessor(channel + 1), arrays[channel]);
			pixels = arrays.clone();
		}
		if (changed)
			imp.updateAndRepaintWindow();
		return true;
	}

	private static boolean put(ImageProcessor ip, Object array) {
		if (ip == null || array == null || ip.getPixels() == array)
			return false;
		ip.setPixels(array);
		ip.setSnapshotPixels(null);
		return true;
	}

	/** Whether the picture is composed of several channels. */
	private boolean isComposite() throws IllegalAccessException {
		// imp.getNChannels() would change the extents while a command deletes slices.
		return imp.isComposite() && ((CompositeImage) imp).getMode() == IJ.COMPOSITE && CHANNELS.getInt(imp) > 1;
	}

	@Override
	public void paint(Graphics g) {
		boolean[] seen = null;
		try {
			if (Growth.isHalfway(imp)) {
				paintAsItWas(g);
				return;
			}
			// CompositeImage.updateImage makes a picture, but takes it only if there is none yet.
			if (isComposite() && IMAGE.get(imp) != COMPOSED.get(imp))
				IMAGE.set(imp, null);
			super.paint(g);
			seen = seen();
		} catch (IllegalAccessException error) {
			throw new IllegalStateException(error); // not possible: Growth.field makes them accessible
		}
		painted.accept(seen);
	}

	/** Paints the picture that ImageJ has of the image, without asking that for anything. */
	private void paintAsItWas(Graphics g) throws IllegalAccessException {
		Image picture = (Image) IMAGE.get(imp);
		if (picture != null)
			g.drawImage(picture, 0, 0, (int) (srcRect.width * magnification + 0.5),
				(int) (srcRect.height * magnification + 0.5), srcRect.x, srcRect.y, srcRect.x + srcRect.width,
				srcRect.y + srcRect.height, null);
	}

	/** Which of the arrays that the image was given are in the picture that it has now. */
	private boolean[] seen() throws IllegalAccessException {
		boolean[] seen = new boolean[pixels.length];
		Object picture = IMAGE.get(imp);
		if (picture == null)
			return seen;
		if (isComposite()) {
			boolean[] active = ((CompositeImage) imp).getActiveChannels();
			for (int channel = 0; channel < pixels.length && picture == COMPOSED.get(imp); channel++) {
				ImageProcessor ip = ((CompositeImage) imp).getProcessor(channel + 1);
				seen[channel] = ip != null && ip.getPixels() == pixels[channel] && active[channel];
			}
			return seen;
		}
		ImageProcessor ip = imp.getProcessor();
		for (int channel = 0; channel < pixels.length && picture == DRAWN.get(ip); channel++)
			seen[channel] = pixels[channel] != null && ip.getPixels() == pixels[channel];
		return seen;
	}

	@Override
	public void removeNotify() {
		closer = Commands.closing(imp);
		super.removeNotify();
	}
}
