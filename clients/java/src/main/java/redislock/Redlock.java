package redislock;

import static redislock.Tasks.now;
import static redislock.Tasks.repeat;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.CancellationException;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import redislock.Attempt.Wish;
import redislock.Tasks.Round;

/**
 * The Redlock algorithm: locks that are held of a majority of servers that know nothing of each other.
 *
 * <p>One server with a replica, {@link AcquireOptions#replicas} and fences is the better choice for almost everybody: it has a
 * queue, and its fences rise. See the README.
 *
 * <p>One token is asked of all servers at once. It is held when a majority has granted it while something is left of the
 * lease, less what the clocks of the servers may differ by. What was granted by fewer is given back at once, and asked for
 * again after a time at random, or those who contend would do so in step and split the servers again. There is no queue: who
 * waits in several could wait for ever for one who waits there too.
 */
public final class Redlock {
    private Redlock() {}

    /**
     * Of several servers, at best of an odd number.
     *
     * @param servers the locks of each
     * @return the locks; closing them closes those of each server
     */
    public static Locks of(List<Locks> servers) {
        return new Locks(new Majority(servers.stream().map(locks -> (Server) locks.place).toList()));
    }

    private static final class Majority implements Remote.Place {
        // In milliseconds.
        /** Between two tries, at most. */
        private static final long RETRY = 200;
        /** How long a server may take to answer: those that do not answer hold up nothing for longer. */
        private static final long TIMEOUT = 500;
        /** To release at a server whose reply was lost; what is held there otherwise ends with its lease. */
        private static final int TRIES = 3;

        private final List<Server> servers;
        private final int quorum;

        Majority(List<Server> servers) {
            this.servers = servers;
            this.quorum = servers.size() / 2 + 1;
        }

        @Override
        public Remote forHold(Request request) {
            if (request.session || request.replicas > 0) {
                throw new IllegalArgumentException("With several servers there are neither sessions nor replicas.");
            }
            if (!request.isOne) {
                throw new IllegalArgumentException("With several servers each lock is acquired by itself.");
            }
            return this;
        }

        @Override
        public CompletableFuture<Object> guard(Request request, String name, Object... command) {
            throw new UnsupportedOperationException(
                    "With several servers no command is guarded: none of them knows whether the lock is held.");
        }

        @Override
        public CompletableFuture<Optional<Grant>> acquire(Request request, Wish wish) {
            long began = now();
            long deadline = request.wait == Long.MAX_VALUE ? Long.MAX_VALUE : began + request.wait;
            return repeat(() -> {
                if (wish.isOver()) {
                    throw new CancellationException();
                }
                long sent = now();
                return askAll(request.acquire()).thenCompose(replies -> {
                    List<Long> fences = replies.stream().filter(List.class::isInstance)
                            .map(reply -> (Long) ((List<?>) reply).get(1)).toList();
                    long ends = sent + request.lease - drift(request.lease);
                    return fences.size() >= quorum && now() < ends
                            ? Round.last(Optional.of(new Grant(Collections.max(fences), ends)))
                            : release(request, request.lease, 0).thenCompose(done -> refused(request, replies, deadline, began + Steps.PATIENCE));
                });
            });
        }

        private CompletableFuture<Round<Optional<Grant>>> refused(
                Request request, List<Object> replies, long deadline, long patience) {
            // With so many that have not said no it cannot be said: at once with those that will not.
            int tooMany = servers.size() - quorum + 1;
            List<Throwable> errors = errors(replies);
            List<Throwable> lasting = errors.stream().filter(error -> !Failure.passes(error)).toList();
            boolean isUnknown = errors.size() >= tooMany;
            boolean isLast = now() >= (isUnknown ? Math.max(deadline, patience) : deadline);
            if (lasting.size() >= tooMany || isUnknown && isLast) {
                return CompletableFuture.failedFuture(lasting.isEmpty() ? errors.get(0) : lasting.get(0));
            }
            if (request.level > 1 && !isUnknown) {
                throw new LockException.Lost("The outer level does not hold the lock any more.");
            }
            return isLast ? Round.last(Optional.empty())
                    : Round.againAfter(ThreadLocalRandom.current().nextLong(RETRY / 4, RETRY));
        }

        @Override
        public CompletableFuture<Optional<Long>> extend(Request request, long lease, long until) {
            return repeat(() -> {
                long sent = now();
                Words words = request.extend(lease);
                return askAll(words).thenCompose(replies -> {
                    // What is no lock any more is not held.
                    List<Throwable> errors = errors(replies).stream()
                            .filter(error -> !Failure.is(error, "WRONGTYPE")).toList();
                    long yes = replies.stream().filter(words::isYes).count();
                    if (yes >= quorum) {
                        return Round.last(Optional.of(sent + lease - drift(lease)));
                    }
                    if (yes + errors.size() < quorum) {
                        return Round.last(Optional.empty());
                    }
                    return now() + Steps.PAUSE >= until ? CompletableFuture.failedFuture(errors.get(0))
                            : Round.againAfter(Math.min(Steps.PAUSE, lease / 10));
                });
            });
        }

        @Override
        public CompletableFuture<Optional<Boolean>> release(Request request, long lease, long keepUntil) {
            var all = servers.stream().map(server -> releaseAt(server, request, keepUntil)).toList();
            return joined(all).thenApply(said -> {
                int yes = Collections.frequency(said, Optional.of(true));
                int unknown = Collections.frequency(said, Optional.empty());
                return yes >= quorum ? Optional.of(true) : yes + unknown >= quorum ? Optional.empty() : Optional.of(false);
            });
        }

        private static CompletableFuture<Optional<Boolean>> releaseAt(Server server, Request request, long keepUntil) {
            int[] tries = {TRIES};
            boolean[] askedBefore = {false};
            return repeat(() -> {
                long rest = keepUntil - now();
                Words words = rest > 0 ? request.keepFor(rest) : request.release();
                return ask(server, words).thenCompose(reply -> {
                    if (!(reply instanceof Throwable error)) {
                        return Round.last(Steps.released(words, reply, askedBefore[0]));
                    }
                    if (!Failure.passes(error)) {
                        return Round.last(Optional.of(false));
                    }
                    askedBefore[0] |= Failure.isNoReply(error);
                    return --tries[0] > 0 ? Round.againAfter(0) : Round.last(Optional.empty());
                });
            });
        }

        /** The reply, or the error. */
        private static CompletableFuture<Object> ask(Server server, Words words) {
            return server.ask(words, 0).copy().orTimeout(TIMEOUT, TimeUnit.MILLISECONDS).exceptionally(Majority::error);
        }

        private CompletableFuture<List<Object>> askAll(Words words) {
            return joined(servers.stream().map(server -> ask(server, words)).toList());
        }

        private static <T> CompletableFuture<List<T>> joined(List<CompletableFuture<T>> all) {
            return CompletableFuture.allOf(all.toArray(CompletableFuture[]::new)).thenApply(done -> {
                List<T> values = new ArrayList<>();
                // Not by a stream: there may be null among them.
                all.forEach(each -> values.add(each.join()));
                return values;
            });
        }

        private static Throwable error(Throwable error) {
            Throwable own = Failure.unwrapped(error);
            return own instanceof TimeoutException
                    ? Failure.noReply("There was no reply for " + TIMEOUT + " ms.", own) : own;
        }

        private static List<Throwable> errors(List<Object> replies) {
            return replies.stream().filter(Throwable.class::isInstance).map(Throwable.class::cast).toList();
        }

        /** By how much a lease may end sooner at a server than here: 1 % for the clocks, 2 ms for their resolution. */
        private static long drift(long lease) {
            return lease / 100 + 2;
        }

        @Override
        public void close() {
            servers.forEach(Server::close);
        }
    }
}
