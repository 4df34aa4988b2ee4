package redislock;

import static redislock.Tasks.now;
import static redislock.Tasks.orElse;
import static redislock.Tasks.repeat;

import java.util.List;
import java.util.Optional;
import java.util.concurrent.CancellationException;
import java.util.concurrent.CompletableFuture;
import redislock.Attempt.Wish;
import redislock.Tasks.Round;

/** The loops of docs/clients.md: what is asked and when, whatever the library and the connections are. */
abstract class Steps implements Remote {
    // All in milliseconds.
    /** Between a request that failed and the next one. */
    static final long PAUSE = 100;
    /** Between requests of one who waits: less than lock.claim-lease, with room for a slow reply. */
    static final long REPEAT = 2_000;
    /** How long the place is kept: longer than it takes to come back after a broken connection. */
    static final long QUEUE = 15_000;
    /** How long an acquire that does not wait tries again what passes. */
    static final long PATIENCE = 2_000;

    /** The reply. With replicas WAIT comes behind it on the same connection, and too few of them are an error. */
    abstract CompletableFuture<Object> ask(Words words, int replicas);

    /** Sends this LOCK.ACQUIRE or LOCK.MACQUIRE, and does not come back with a ticket before it may have been called, or wait is over. */
    abstract CompletableFuture<Object> askInTurn(Words words, long wait, Wish wish);

    @Override
    public CompletableFuture<Optional<Grant>> acquire(Request request, Wish wish) {
        return new Acquiring(request, wish).run();
    }

    private final class Acquiring {
        private final Request request;
        private final Wish wish;
        private final long began = now();
        private final long deadline;
        private boolean leftSomething;

        Acquiring(Request request, Wish wish) {
            this.request = request;
            this.wish = wish;
            this.deadline = request.wait == Long.MAX_VALUE ? Long.MAX_VALUE : began + request.wait;
        }

        CompletableFuture<Optional<Grant>> run() {
            return repeat(this::round);
        }

        private CompletableFuture<Round<Optional<Grant>>> round() {
            if (wish.isOver()) {
                throw new CancellationException();
            }
            long sent = now();
            long left = deadline == Long.MAX_VALUE ? deadline : deadline - sent;
            boolean inTurn = left > 0 && request.level == 1;
            leftSomething |= inTurn;
            Words words = request.acquire();
            CompletableFuture<Object> reply = !inTurn
                    ? ask(words, 0)
                    : askInTurn(request.session ? words : words.and("QUEUE", QUEUE), left, wish);
            return orElse(reply.thenCompose(r -> replied(r, sent)), this::failed);
        }

        private CompletableFuture<Round<Optional<Grant>>> replied(Object reply, long sent) {
            if (wish.isOver()) {
                throw new CancellationException();
            }
            if (reply instanceof List<?> granted) {
                return confirmed((Long) granted.get(1), sent);
            }
            if (reply == null && request.level > 1) {
                throw new LockException.Lost("The outer level does not hold the lock any more.");
            }
            if (reply != null && now() < deadline) {
                return Round.againAfter(0);
            }
            return leftSomething
                    ? release(request, request.lease, 0).thenCompose(done -> Round.last(Optional.empty()))
                    : Round.last(Optional.empty());
        }

        /** Extends at once a grant whose lease may have begun long ago by our clock, or that replicas are to confirm. */
        private CompletableFuture<Round<Optional<Grant>>> confirmed(long fence, long sent) {
            if (request.replicas == 0 && now() - sent < request.lease / 10) {
                return Round.last(Optional.of(new Grant(fence, sent + request.lease)));
            }
            if (request.replicas == 0 && request.session) {
                // The server itself extends it, and so no less than the lease is left.
                return Round.last(Optional.of(new Grant(fence, now() + request.lease)));
            }
            return extend(request, request.lease, 0).thenCompose(ends ->
                    ends.isPresent() ? Round.last(Optional.of(new Grant(fence, ends.get()))) : again());
        }

        /** Who holds some of several locks cannot wait for the others. */
        private CompletableFuture<Round<Optional<Grant>>> again() {
            return request.isOne ? Round.againAfter(0)
                    : release(request, request.lease, 0).thenCompose(done -> Round.againAfter(0));
        }

        private CompletableFuture<Round<Optional<Grant>>> failed(Throwable error) {
            if (wish.isOver() || !Failure.passes(error) || now() >= Math.max(deadline, began + PATIENCE)) {
                return CompletableFuture.failedFuture(error);
            }
            leftSomething = true;
            return Round.againAfter(PAUSE);
        }
    }

    @Override
    public CompletableFuture<Optional<Long>> extend(Request request, long lease, long until) {
        return repeat(() -> {
            long sent = now();
            Words words = request.extend(lease);
            var ends = ask(words, request.replicas).thenCompose(reply ->
                    Round.last(words.isYes(reply) ? Optional.of(sent + lease) : Optional.<Long>empty()));
            return orElse(ends, error -> {
                if (Failure.is(error, "WRONGTYPE")) {
                    return Round.last(Optional.empty());
                }
                // A session ends with its connection, and there is no other one to ask by.
                boolean isFinal = request.session || now() + PAUSE >= until;
                return isFinal || !(Failure.passes(error) || error instanceof LockException.TooFewReplicas)
                        ? CompletableFuture.failedFuture(error)
                        : Round.againAfter(Math.min(PAUSE, lease / 10));
            });
        });
    }

    @Override
    public CompletableFuture<Optional<Boolean>> release(Request request, long lease, long keepUntil) {
        if (request.level > 1 && !request.isOne) {
            return releaseEach(request, lease, keepUntil);
        }
        // By then the lease, or the place in the queue, has ended anyway.
        long until = now() + Math.max(QUEUE, lease);
        boolean[] askedBefore = {false};
        return repeat(() -> {
            long rest = keepUntil - now();
            Words words = rest > 0 ? request.keepFor(rest) : request.release();
            var done = ask(words, 0).thenCompose(reply -> Round.last(released(words, reply, askedBefore[0])));
            return orElse(done, error -> {
                if (Failure.is(error, "WRONGTYPE")) {
                    // One of several is no lock any more, and none of the others was released.
                    return request.isOne ? Round.last(Optional.of(false)) : releaseEach(request, lease, keepUntil)
                            .thenCompose(others -> Round.last(Optional.of(false)));
                }
                if (!Failure.passes(error) || now() >= until) {
                    return Round.last(Optional.empty());
                }
                // An error of the server says that nothing was done.
                askedBefore[0] |= Failure.isNoReply(error);
                return Round.againAfter(PAUSE);
            });
        });
    }

    static Optional<Boolean> released(Words words, Object reply, boolean askedBefore) {
        if (askedBefore && reply instanceof Long number && number == 0) {
            // After a lost reply 0 says nothing: the first request may have released it.
            return Optional.empty();
        }
        return Optional.of(words.isYes(reply));
    }

    private CompletableFuture<Optional<Boolean>> releaseEach(Request request, long lease, long keepUntil) {
        return all(request.each().stream().map(each -> release(each, lease, keepUntil)).toList());
    }

    /** What several releases come to: lost if one was, and not known if one is not. */
    private static CompletableFuture<Optional<Boolean>> all(List<CompletableFuture<Optional<Boolean>>> releases) {
        return CompletableFuture.allOf(releases.toArray(CompletableFuture[]::new)).thenApply(done -> {
            var said = releases.stream().map(CompletableFuture::join).toList();
            return said.contains(Optional.of(false)) ? Optional.of(false)
                    : said.contains(Optional.<Boolean>empty()) ? Optional.empty() : Optional.of(true);
        });
    }

    @Override
    public CompletableFuture<Object> guard(Request request, String name, Object... command) {
        return ask(Words.of("LOCK.GUARD", name, request.token).and(command), 0);
    }
}
