package scopecast;

import ij.ImagePlus;
import ij.gui.ImageCanvas;
import ij.gui.StackWindow;
import java.awt.Graphics;

/** A window of a live image, which asks the image nothing in the midst of a command: see Growth.isHalfway. */
public class LiveWindow extends StackWindow {
	private static final long serialVersionUID = 1L;

	public LiveWindow(ImagePlus imp, ImageCanvas canvas) {
		super(imp, canvas);
	}

	@Override
	public void paint(Graphics g) {
		// What stands above the image has the slice and the extents; the command paints it anew when it has ended.
		if (!Growth.isHalfway(getImagePlus()))
			super.paint(g);
	}
}
