package scopecast;

import ij.ImagePlus;
import ij.gui.ImageCanvas;
import java.awt.Graphics;

/** A canvas that tells when it has been painted. */
public class LiveCanvas extends ImageCanvas {
	private static final long serialVersionUID = 1L;
	private final transient Runnable painted;

	public LiveCanvas(ImagePlus imp, Runnable painted) {
		super(imp);
		this.painted = painted;
	}

	@Override
	public void paint(Graphics g) {
		super.paint(g);
		painted.run();
	}
}
