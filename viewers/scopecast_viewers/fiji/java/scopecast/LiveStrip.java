package scopecast;

import ij.gui.ImageCanvas;
import java.awt.BorderLayout;
import java.awt.Dimension;
import java.awt.Panel;

/** A line below an image, as wide as that. */
public class LiveStrip extends Panel {
	private static final long serialVersionUID = 1L;
	private static final int LEAST_WIDTH = 240;
	private static final int HEIGHT = 24;
	private final transient ImageCanvas canvas;

	public LiveStrip(ImageCanvas canvas) {
		super(new BorderLayout(6, 0));
		this.canvas = canvas;
	}

	@Override
	public Dimension getPreferredSize() {
		return new Dimension(Math.max(LEAST_WIDTH, canvas.getPreferredSize().width), HEIGHT);
	}
}
