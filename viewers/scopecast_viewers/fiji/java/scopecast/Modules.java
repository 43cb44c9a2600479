package scopecast;

import org.scijava.Context;
import org.scijava.command.CommandInfo;
import org.scijava.event.EventService;
import org.scijava.event.EventSubscriber;
import org.scijava.module.event.ModuleCanceledEvent;
import org.scijava.module.event.ModuleErroredEvent;
import org.scijava.module.event.ModuleEvent;
import org.scijava.module.event.ModuleFinishedEvent;
import org.scijava.module.event.ModuleStartedEvent;

/**
 * Which commands ImageJ2 runs by itself, as those of Fiji's search bar: ij.Executer knows nothing of them.
 *
 * SciJava announces a command on the window thread before anything of it is done, its dialog included, and waits. Images
 * grow on the window thread, too, so that none grows between that and the command's first look.
 */
public final class Modules implements EventSubscriber<ModuleEvent> {
	private static Modules subscriber; // SciJava itself holds subscribers weakly

	private Modules() {
	}

	/** Begins to listen, once. */
	public static synchronized void watch(Context context) {
		EventService events = context.getService(EventService.class);
		if (subscriber == null && events != null)
			events.subscribe(subscriber = new Modules());
	}

	@Override
	public void onEvent(ModuleEvent event) {
		// A script may go on for ever, to watch a run, say; it takes what there is.
		if (!(event.getModule().getInfo() instanceof CommandInfo))
			return;
		if (event instanceof ModuleStartedEvent)
			Commands.began(event.getModule(), event.getModule().getInfo().getTitle());
		else if (event instanceof ModuleFinishedEvent || event instanceof ModuleCanceledEvent
				|| event instanceof ModuleErroredEvent)
			Commands.ended(event.getModule());
	}

	@Override
	public Class<ModuleEvent> getEventClass() {
		return ModuleEvent.class;
	}
}
