package redislock;

import java.net.InetAddress;
import java.net.UnknownHostException;
import java.security.SecureRandom;
import java.util.Collection;
import java.util.HexFormat;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.concurrent.atomic.AtomicLong;

/** What one acquire asks for, of one lock or of several. Times are in milliseconds. */
final class Request {
    static final long LEASE = 30_000;
    /** How many locks may be acquired together. */
    private static final int NAMES = 256;
    /** Of a host in a label, which has at most 255 bytes. */
    private static final int HOST = 200;
    private static final AtomicLong FUTURES = new AtomicLong();
    private static final SecureRandom RANDOM = new SecureRandom();

    /** What the caller has named, each once, in the order in which they were given. */
    final List<String> asked;
    /** What the server is told: the same, or for a level all names of its hold, so that they have one lease. */
    final List<String> names;
    /** One lock, and not several that are held together, even if that is one. */
    final boolean isOne;
    final String token;
    final int level;
    final long lease;
    /** Long.MAX_VALUE is without end. */
    final long wait;
    final int replicas;
    final boolean session;
    final long atLeast;
    final boolean renew;
    private final long delay;
    private final String owner;
    private final AcquireOptions how;

    /** Of one lock; `worker` names who asks within this process, see {@link #thread} and {@link #future}. */
    Request(String name, AcquireOptions how, long wait, HeldLock outer, String worker) {
        this(List.of(name), true, how, wait, outer, worker);
    }

    /** Of several locks, which are acquired together. */
    Request(Collection<String> names, AcquireOptions how, long wait, HeldLock outer, String worker) {
        this(List.copyOf(new LinkedHashSet<>(names)), false, how, wait, outer, worker);
    }

    private Request(List<String> names, boolean isOne, AcquireOptions how, long wait, HeldLock outer, String worker) {
        if (names.isEmpty() || names.size() > NAMES) {
            throw new IllegalArgumentException("There must be 1 to " + NAMES + " names, and not " + names.size() + ".");
        }
        this.how = how;
        this.asked = names;
        this.names = outer != null ? outer.hold.request.names : names;
        this.isOne = outer != null ? outer.hold.request.isOne : isOne;
        this.wait = how.wait < 0 ? wait : how.wait;
        // Made before anything is sent, so that a request whose reply was lost can be sent again.
        this.token = outer != null ? outer.token() : how.token != null ? how.token : newToken();
        this.level = outer != null ? outer.innermost().level() + 1 : Math.max(1, how.level);
        this.lease = how.lease > 0 ? how.lease : outer != null ? outer.hold.lease() : LEASE;
        this.session = outer != null ? outer.hold.request.session : how.session;
        this.delay = outer != null ? outer.hold.request.delay : how.delay;
        this.owner = how.owner != null ? how.owner : Host.NAME + ":" + ProcessHandle.current().pid() + ":" + worker;
        this.replicas = outer != null ? outer.hold.request.replicas : how.replicas;
        this.atLeast = how.atLeast;
        this.renew = how.renew;
        if (level > 1 && outer == null && how.token == null) {
            throw new IllegalArgumentException("A level above 1 needs the token that was handed on.");
        }
        if (level > 1 && outer == null && session) {
            throw new IllegalArgumentException(
                    "A level that was handed on has no session: it would tie the hold to a connection of its own.");
        }
        if (delay > 0 && !session) {
            throw new IllegalArgumentException("A delay is for what has a session.");
        }
        if (how.limit > 0 && how.weight > how.limit) {
            throw new IllegalArgumentException("The weight " + how.weight + " is above the limit " + how.limit + ".");
        }
    }

    private Request(Request of, String name) {
        this.asked = of.asked;
        this.names = List.of(name);
        this.isOne = true;
        this.token = of.token;
        this.level = of.level;
        this.lease = of.lease;
        this.wait = of.wait;
        this.replicas = of.replicas;
        this.session = of.session;
        this.atLeast = of.atLeast;
        this.renew = of.renew;
        this.delay = of.delay;
        this.owner = of.owner;
        this.how = of.how;
    }

    /** Who asks in this thread. The server takes a label for one worker, and finds deadlocks among them. */
    static String thread() {
        return Long.toString(Thread.currentThread().getId());
    }

    /** Who asks in a future, which belongs to no thread: somebody new each time. */
    static String future() {
        return "f" + FUTURES.incrementAndGet();
    }

    /** The same, of each lock by itself. */
    List<Request> each() {
        return isOne ? List.of(this) : names.stream().map(name -> new Request(this, name)).toList();
    }

    Words acquire() {
        return acquire(lease);
    }

    private Words acquire(long lease) {
        Words words = command("ACQUIRE").and("PX", lease, "TOKEN", token);
        if (level > 1) {
            // Label, limit and weight stay those of the outer level.
            words = words.and("LEVEL", level);
        } else {
            words = words.and("OWNER", owner);
            words = how.limit == 0 ? words.and("SHARED") : words.and("LIMIT", how.limit);
            words = how.weight == 0 ? words : words.and("WEIGHT", how.weight);
        }
        words = session ? words.and("SESSION") : words;
        return delay > 0 ? words.and("DELAY", delay) : words;
    }

    private Words command(String what) {
        Words words = isOne ? Words.of("LOCK." + what) : Words.of("LOCK.M" + what, names.size());
        return words.and(names.toArray());
    }

    Words extend(long lease) {
        // An inner level must not make the lease shorter, and LOCK.ACQUIRE with LEVEL does not.
        return level > 1 ? acquire(lease) : keepFor(lease);
    }

    Words keepFor(long time) {
        return command("EXTEND").and(token, "PX", time);
    }

    /** Levels above 1 have no such command for several locks: see {@link #each}. */
    Words release() {
        Words words = command("RELEASE").and(token);
        return level > 1 ? words.and("LEVEL", level) : words;
    }

    private static String newToken() {
        byte[] bytes = new byte[16];
        RANDOM.nextBytes(bytes);
        return HexFormat.of().formatHex(bytes);
    }

    private static final class Host {
        static final String NAME = shortened(name());

        private static String shortened(String name) {
            return name.substring(0, Math.min(HOST, name.length()));
        }

        private static String name() {
            try {
                return InetAddress.getLocalHost().getHostName();
            } catch (UnknownHostException e) {
                // It has a name, which nobody knows an address of. The message begins with it.
                return e.getMessage().split(":")[0];
            }
        }
    }
}
