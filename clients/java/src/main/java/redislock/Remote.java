package redislock;

import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import redislock.Attempt.Wish;

/** What a lock is held of: a server, or the majority of several. */
interface Remote {
    /** When the lease ends by our own clock. */
    record Grant(long fence, long ends) {}

    /** Empty when it is not available in time. Whatever it fails with has to be followed by a release. */
    CompletableFuture<Optional<Grant>> acquire(Request request, Wish wish);

    /** When the lease ends, or empty when the lock is lost. Fails when that cannot be said. */
    CompletableFuture<Optional<Long>> extend(Request request, long lease, long until);

    /**
     * Whether it was held until now, or empty when that is not known. `lease` is the longest that it may have been extended to:
     * it is tried for so long. With keepUntil the lease ends then, not at once.
     */
    CompletableFuture<Optional<Boolean>> release(Request request, long lease, long keepUntil);

    /** Runs a command while the token holds this lock, once. Fails with what the server or the library says. */
    CompletableFuture<Object> guard(Request request, String name, Object... command);

    /** The hold has ended: a connection of its own can be closed. */
    default void end() {}

    /** Completed when such a connection is lost. */
    default CompletableFuture<Void> ended() {
        return new CompletableFuture<>();
    }

    /** Where locks are, for all who ask. */
    interface Place extends Remote {
        /** What is asked for this hold. */
        Remote forHold(Request request);

        void close();
    }
}
