package scopecast;

import ij.gui.ImageCanvas;
import ij.gui.ImageWindow;
import java.awt.BorderLayout;
import java.awt.Color;
import java.awt.Component;
import java.awt.Dimension;
import java.awt.FontMetrics;
import java.awt.Graphics;
import java.awt.Graphics2D;
import java.awt.Insets;
import java.awt.Panel;
import java.awt.RenderingHints;
import java.util.ArrayList;
import java.util.List;

/** Short texts below an image, as wide as that: in one line if it is wide, in two or three if it is not. */
public class LiveStrip extends Panel {
	private static final long serialVersionUID = 1L;
	private static final int LEAST_WIDTH = 300;
	private static final int[] WIDTH_FOR = {600, 360}; // for one line, for two
	private static final int LINE = 16;
	private static final int MARGIN = 4;
	private static final String BETWEEN = "   ";
	private final transient ImageCanvas canvas;
	private final Texts texts = new Texts();
	private String[] parts = {};
	private boolean ended;

	public LiveStrip(ImageCanvas canvas) {
		super(new BorderLayout(6, 0));
		this.canvas = canvas;
		add(texts, BorderLayout.CENTER);
	}

	/** Shows texts, the most important first: what does not fit is left out at the end. */
	public void write(String[] parts, Color color) {
		this.parts = parts.clone();
		texts.setForeground(color);
		texts.repaint();
	}

	/** Shows a text instead of all that was there, from now on; and needs no more room than that. */
	public void end(String text, Color color) {
		removeAll();
		add(texts, BorderLayout.CENTER);
		ended = true;
		write(new String[] {text}, color);
	}

	/** The lines that are painted. */
	public String[] lines() {
		return lines(texts.getFontMetrics(getFont()), texts.getWidth() - MARGIN).toArray(new String[0]);
	}

	@Override
	public Dimension getPreferredSize() {
		int least = ended ? Math.min(LEAST_WIDTH, getFontMetrics(getFont()).stringWidth(parts[0]) + 2 * MARGIN) : LEAST_WIDTH;
		int width = Math.max(least, canvas.getPreferredSize().width);
		return new Dimension(width, 2 * MARGIN + LINE * (ended ? 1 : count(Math.max(width, room()))));
	}

	/**
	 * How wide the window lets the image be. ImageJ's layout makes the canvas narrow where the window is, for a moment,
	 * and then asks for the height of what is below it to give the canvas the rest: that must not be more lines.
	 */
	private int room() {
		if (!(getParent() instanceof ImageWindow))
			return 0;
		ImageWindow window = (ImageWindow) getParent();
		Insets insets = window.getInsets();
		int inside = window.getWidth() - insets.left - insets.right - 2 * ImageWindow.HGAP;
		return Math.min(inside, (int) (window.getImagePlus().getWidth() * canvas.getMagnification()));
	}

	private static int count(int width) {
		return width >= WIDTH_FOR[0] ? 1 : width >= WIDTH_FOR[1] ? 2 : 3;
	}

	private List<String> lines(FontMetrics metrics, int width) {
		List<String> lines = new ArrayList<>();
		String line = "";
		for (String part : parts) {
			String longer = line.isEmpty() ? part : line + BETWEEN + part;
			if (!line.isEmpty() && metrics.stringWidth(longer) > width) {
				lines.add(line);
				longer = part;
			}
			line = longer;
		}
		lines.add(line);
		int most = ended ? 1 : count(getWidth());
		boolean isCut = lines.size() > most;
		while (lines.size() > most)
			lines.remove(most);
		for (int n = 0; n < lines.size(); n++)
			lines.set(n, cut(lines.get(n), isCut && n == most - 1, metrics, width));
		return lines;
	}

	/** Shortens a text to a width; one that goes on is marked so. */
	private static String cut(String text, boolean goesOn, FontMetrics metrics, int width) {
		String marked = goesOn ? text + " \u2026" : text;
		for (int end = text.length(); end > 0 && metrics.stringWidth(marked) > width; end--)
			marked = text.substring(0, end - 1).trim() + "\u2026";
		return marked;
	}

	private final class Texts extends Component {
		private static final long serialVersionUID = 1L;

		@Override
		public void paint(Graphics g) {
			((Graphics2D) g).setRenderingHint(RenderingHints.KEY_TEXT_ANTIALIASING,
				RenderingHints.VALUE_TEXT_ANTIALIAS_ON);
			g.setFont(LiveStrip.this.getFont());
			FontMetrics metrics = g.getFontMetrics();
			int y = MARGIN + metrics.getAscent();
			for (String line : lines(metrics, getWidth() - MARGIN)) {
				g.drawString(line, MARGIN / 2, y);
				y += LINE;
			}
		}
	}
}
