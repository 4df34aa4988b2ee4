package redislock;

import java.net.InetAddress;
import java.net.UnknownHostException;
import java.security.SecureRandom;
import java.util.HexFormat;

/** What one acquire asks for. Times are in milliseconds. */
final class Request {
    static final long LEASE = 30_000;
    private static final SecureRandom RANDOM = new SecureRandom();

    final String lock;
    final byte[] name;
    final String token;
    final int level;
    final long lease;
    /** Long.MAX_VALUE is without end. */
    final long wait;
    final int replicas;
    final boolean session;
    final long atLeast;
    final boolean renew;
    private final AcquireOptions how;

    Request(String lock, AcquireOptions how, long wait, HeldLock outer) {
        this.how = how;
        this.lock = lock;
        this.name = Words.bytes(lock);
        this.wait = how.wait < 0 ? wait : how.wait;
        // Made before anything is sent, so that a request whose reply was lost can be sent again.
        this.token = outer != null ? outer.token() : how.token != null ? how.token : newToken();
        this.level = outer != null ? outer.innermost().level() + 1 : Math.max(1, how.level);
        this.lease = how.lease > 0 ? how.lease : outer != null ? outer.hold.lease() : LEASE;
        this.session = outer != null ? outer.hold.request.session : how.session;
        this.replicas = how.replicas;
        this.atLeast = how.atLeast;
        this.renew = how.renew;
        if (level > 1 && outer == null && how.token == null) {
            throw new IllegalArgumentException("A level above 1 needs the token that was handed on.");
        }
    }

    Words acquire() {
        return acquire(lease);
    }

    private Words acquire(long lease) {
        Words words = Words.of("LOCK.ACQUIRE", name, "PX", lease, "TOKEN", token);
        if (level > 1) {
            // Label and limit stay those of the outer level.
            words = words.and("LEVEL", level);
        } else {
            words = words.and("OWNER", how.owner == null ? thisProcess() : how.owner);
            words = how.limit == 0 ? words.and("SHARED") : words.and("LIMIT", how.limit);
        }
        return session ? words.and("SESSION") : words;
    }

    Words extend(long lease) {
        // An inner level must not make the lease shorter, and LOCK.ACQUIRE with LEVEL does not.
        return level > 1 ? acquire(lease) : keepFor(lease);
    }

    Words keepFor(long time) {
        return Words.of("LOCK.EXTEND", name, token, "PX", time);
    }

    Words release(int level) {
        Words words = Words.of("LOCK.RELEASE", name, token);
        return level > 1 ? words.and("LEVEL", level) : words;
    }

    private static String newToken() {
        byte[] bytes = new byte[16];
        RANDOM.nextBytes(bytes);
        return HexFormat.of().formatHex(bytes);
    }

    private static String thisProcess() {
        return Host.NAME + ":" + ProcessHandle.current().pid();
    }

    private static final class Host {
        static final String NAME = name();

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
