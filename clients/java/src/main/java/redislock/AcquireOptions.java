package redislock;

import java.time.Duration;
import java.util.function.Consumer;

/** How a lock is acquired. Immutable: each method gives another one, so that they can be chained and kept. */
public final class AcquireOptions implements Cloneable {
    private static final AcquireOptions DEFAULTS = new AcquireOptions();

    /** The most that the server takes. */
    private static final int MOST = 65_535;

    /** Longer is without end. */
    private static final Duration AGES = Duration.ofDays(36_500);

    /** 0 for who names none: then it is that of the outer level, or 30 seconds. */
    long lease;
    /** -1 for who names none. */
    long wait = -1;
    /** 0 is shared. */
    int limit = 1;
    /** 0 for who names none: then it is 1. */
    int weight;
    String owner;
    String token;
    int level;
    boolean session;
    /** 0 is none. */
    long delay;
    int replicas;
    long atLeast;
    boolean renew = true;

    private AcquireOptions() {}

    /**
     * Alone, with a lease of 30 seconds that is renewed while the lock is held.
     *
     * @return the options of who wants nothing special
     */
    public static AcquireOptions defaults() {
        return DEFAULTS;
    }

    /**
     * The time after which the lock ends by itself. It is renewed each third of that.
     *
     * @param lease a millisecond or more
     * @return such options
     */
    public AcquireOptions lease(Duration lease) {
        return with(o -> o.lease = millis(lease, 1));
    }

    /**
     * How long to wait for the lock. Who does not say waits without end in {@code acquire}, and not at all in
     * {@code tryAcquire}.
     *
     * @param wait zero or more
     * @return such options
     */
    public AcquireOptions waitFor(Duration wait) {
        return waitMillis(wait.compareTo(AGES) > 0 ? Long.MAX_VALUE : millis(wait, 0));
    }

    AcquireOptions waitMillis(long wait) {
        return with(o -> o.wait = wait);
    }

    /**
     * Together with any number of others that ask for it so.
     *
     * @return such options
     */
    public AcquireOptions shared() {
        return with(o -> o.limit = 0);
    }

    /**
     * Together with others, up to so many holders.
     *
     * @param limit 1 is alone; at most 65,535
     * @return such options
     */
    public AcquireOptions limit(int limit) {
        return with(o -> o.limit = within(limit));
    }

    /**
     * For how many holders it counts: with a limit of 5 and a weight of 3 it takes three of five permits.
     *
     * @param weight 1, if nothing is said; at most the limit, or 65,535 for who shares
     * @return such options
     */
    public AcquireOptions weight(int weight) {
        return with(o -> o.weight = within(weight));
    }

    /**
     * What LOCK.INFO shows of the holder: host, process and thread, or for a future a number that is new each time, if nothing
     * is said. Give workers that can hold several locks a label of their own, and the server finds deadlocks among them, where
     * they wait on connections: with {@link #session}, and by BLOCK on Jedis.
     *
     * @param owner at most 255 bytes
     * @return such options
     */
    public AcquireOptions owner(String owner) {
        return with(o -> o.owner = owner);
    }

    /**
     * The token that work around this was granted. It is needed for a {@link #level} that the same thread does not have.
     *
     * @param token of {@link HeldLock#token()}
     * @return such options
     */
    public AcquireOptions token(String token) {
        return with(o -> o.token = token);
    }

    /**
     * How deep the lock is held. Who holds it and asks again in the same thread is granted the next level without this.
     *
     * @param level 1 is a hold of its own, always
     * @return such options
     */
    public AcquireOptions level(int level) {
        return with(o -> o.level = atLeast(level, 1));
    }

    /**
     * The hold has a connection of its own, and ends with it: at once, when the process dies.
     *
     * @return such options
     */
    public AcquireOptions session() {
        return with(o -> o.session = true);
    }

    /**
     * With {@link #session}: once its connection is closed the server keeps the hold for so long, so that work that was under
     * way can end before anybody else begins. Here the lock is lost at once all the same.
     *
     * @param delay zero is not at all
     * @return such options
     */
    public AcquireOptions delay(Duration delay) {
        return with(o -> o.delay = millis(delay, 0));
    }

    /**
     * So many replicas have to confirm the grant and each extension.
     *
     * @param replicas zero or more
     * @return such options
     */
    public AcquireOptions replicas(int replicas) {
        return with(o -> o.replicas = atLeast(replicas, 0));
    }

    /**
     * For so long nobody else gets the lock, even if it is released sooner. An inner level has none.
     *
     * @param time counted from the grant
     * @return such options
     */
    public AcquireOptions atLeast(Duration time) {
        return with(o -> o.atLeast = millis(time, 0));
    }

    /**
     * The lock ends with its lease, unless it is extended by hand.
     *
     * @return such options
     */
    public AcquireOptions withoutRenewal() {
        return with(o -> o.renew = false);
    }

    private AcquireOptions with(Consumer<AcquireOptions> change) {
        try {
            AcquireOptions changed = (AcquireOptions) clone();
            change.accept(changed);
            if (changed.session && changed.atLeast > 0) {
                throw new IllegalArgumentException("A session ends with its connection, so it cannot have atLeast.");
            }
            return changed;
        } catch (CloneNotSupportedException impossible) {
            throw new AssertionError(impossible);
        }
    }

    static long millis(Duration time, long least) {
        // Rounded up: less than a millisecond is not nothing.
        long millis = time.plusNanos(999_999).toMillis();
        if (time.isNegative() || millis < least) {
            throw new IllegalArgumentException("too short: " + time);
        }
        return millis;
    }

    private static int within(int number) {
        if (number > MOST) {
            throw new IllegalArgumentException("more than " + MOST + ": " + number);
        }
        return atLeast(number, 1);
    }

    private static int atLeast(int number, int least) {
        if (number < least) {
            throw new IllegalArgumentException("less than " + least + ": " + number);
        }
        return number;
    }
}
