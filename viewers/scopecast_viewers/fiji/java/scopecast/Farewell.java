package scopecast;

import java.awt.EventQueue;
import java.lang.reflect.Field;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;

/**
 * Keeps Java's threads out of a Python that is about to end, while Java itself goes on until the process does.
 *
 * A thread that comes into Python once that has begun to end is taken down in the middle of JPype's code, and the whole
 * process with it ("FATAL: exception not rethrown"). JPype sees to this where it ends Java, too, which would wait for,
 * or interrupt, whatever the user's plugins are doing.
 */
public final class Farewell {
	private Farewell() {
	}

	/**
	 * Lets no call into Python begin, and waits until those of the window thread, and JPype's own thread that drops
	 * references, have ended, but not for ever.
	 */
	public static void say(long milliseconds) throws Exception {
		Thread.setDefaultUncaughtExceptionHandler((thread, error) -> { }); // those of calls that are refused from now on
		// What JPype's own shutdown does, but for ending Java. Names of JPype 1.7.
		Class<?> type = Class.forName("org.jpype.JPypeContext");
		Field flag = type.getDeclaredField("shutdownFlag");
		flag.setAccessible(true);
		((AtomicInteger) flag.get(type.getMethod("getInstance").invoke(null))).incrementAndGet();
		CountDownLatch idle = new CountDownLatch(1);
		EventQueue.invokeLater(idle::countDown);
		idle.await(milliseconds, TimeUnit.MILLISECONDS);
		// Not before: it frees what Java holds of Python, also the function that a call has only just not begun.
		Class<?> queue = Class.forName("org.jpype.ref.JPypeReferenceQueue");
		queue.getMethod("stop").invoke(queue.getMethod("getInstance").invoke(null));
	}
}
