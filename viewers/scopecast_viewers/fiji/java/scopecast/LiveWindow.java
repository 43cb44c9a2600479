package scopecast;

import ij.ImagePlus;
import ij.gui.ImageCanvas;
import ij.gui.StackWindow;
import java.awt.Component;
import java.awt.Graphics;

/**
 * A window of a live image, which asks the image nothing in the midst of a command: see Growth.isHalfway.
 *
 * <p>ImageJ's constructors would pack and show it, several times, in places and sizes that it is not to have. What the
 * window system tells of those comes later, is taken by AWT for the present, and may stay so. So they do neither: whoever
 * makes the window gives it its bounds, once, and shows it.
 */
public class LiveWindow extends StackWindow {
	private static final long serialVersionUID = 1L;
	private boolean built = true; // as soon as ImageJ's constructors have ended

	public LiveWindow(ImagePlus imp, ImageCanvas canvas) {
		super(imp, canvas);
	}

	@Override
	public void pack() {
		if (built)
			super.pack();
	}

	@Override
	@SuppressWarnings("deprecation")
	public void show() {
		if (built)
			super.show();
	}

	/** ImageJ has all begin where the image does: beside one that is narrower than the strip, that would be cut. */
	@Override
	public void doLayout() {
		super.doLayout();
		for (Component each : getComponents())
			if (each instanceof LiveStrip)
				each.setLocation((getWidth() - each.getWidth()) / 2, each.getY());
	}

	@Override
	public void paint(Graphics g) {
		// What stands above the image has the slice and the extents; the command paints it anew when it has ended.
		if (!Growth.isHalfway(getImagePlus()))
			super.paint(g);
	}
}
