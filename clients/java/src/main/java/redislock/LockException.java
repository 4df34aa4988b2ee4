package redislock;

import java.util.Collection;

/** A lock could not be acquired, extended or kept. The cause, if there is one, is what Jedis or Lettuce threw. */
@SuppressWarnings("serial")
public class LockException extends RuntimeException {
    LockException(String message, Throwable cause) {
        super(message, cause);
    }

    static String named(Collection<String> names) {
        return (names.size() == 1 ? "The lock " : "One of the locks ") + String.join(", ", names);
    }

    /** The lock did not become available in time. */
    public static final class NotAcquired extends LockException {
        NotAcquired(Collection<String> names) {
            super(named(names) + " did not become available in time.", null);
        }
    }

    /** The lock ended before its holder released it. */
    public static final class Lost extends LockException {
        Lost(String message) {
            this(message, null);
        }

        Lost(String message, Throwable cause) {
            super(message, cause);
        }
    }

    /** Too many wait for this lock, or on this server. */
    public static final class QueueFull extends LockException {
        QueueFull(String message, Throwable cause) {
            super(message, cause);
        }
    }

    /** The wait could never have ended: owners wait for each other in a circle, or who waits holds some of several locks. */
    public static final class Deadlock extends LockException {
        Deadlock(String message, Throwable cause) {
            super(message, cause);
        }
    }

    /** The user of this connection may not do this with this lock. */
    public static final class NotPermitted extends LockException {
        NotPermitted(String message, Throwable cause) {
            super(message, cause);
        }
    }

    /** The key holds something that is no lock. */
    public static final class WrongType extends LockException {
        WrongType(String message, Throwable cause) {
            super(message, cause);
        }
    }

    /** Fewer replicas than wanted have confirmed it. A grant was released again. */
    public static final class TooFewReplicas extends LockException {
        TooFewReplicas(String message) {
            super(message, null);
        }
    }

    /** No server has answered for as long as it was tried. */
    public static final class NoReply extends LockException {
        NoReply(String message, Throwable cause) {
            super(message, cause);
        }
    }
}
