package redislock;

import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.function.Function;
import redislock.Attempt.Wish;
import redislock.Library.Link;

/** A connection for one hold, which ends with it. What releases the hold, or is guarded by it, goes by the connection
 * of all. */
final class Session extends Steps {
    /** Beyond the time of BLOCK. */
    private static final long ROOM = 5_000;

    /** What goes by the connection of all. */
    private static final Set<String> OF_ALL = Set.of("LOCK.RELEASE", "LOCK.MRELEASE", "LOCK.GUARD");

    private final Server server;
    private final Words words;
    private Link own;
    private boolean over;

    Session(Server server, Request request) {
        this.server = server;
        this.words = request.acquire();
    }

    @Override
    CompletableFuture<Object> ask(Words words, int replicas) {
        return OF_ALL.contains(words.command()) ? server.ask(words, 0)
                : on(link -> Server.send(link, words, replicas, false));
    }

    @Override
    CompletableFuture<Object> askInTurn(Words words, long wait, Wish wish) {
        boolean forever = wait == Long.MAX_VALUE;
        Words blocking = words.and("BLOCK", forever ? 0 : wait);
        return on(link -> forever ? link.send(blocking) : Server.within(wait + ROOM, link, link.send(blocking)));
    }

    private CompletableFuture<Object> on(Function<Link, CompletableFuture<Object>> use) {
        String address = server.address(words);
        CompletableFuture<Link> link;
        synchronized (this) {
            link = own != null ? CompletableFuture.completedFuture(own) : server.open(address).thenApply(this::opened);
        }
        return Tasks.orElse(link.thenCompose(use), error -> {
            // By the next connection the hold would not be tied to anything.
            close();
            server.learn(words, address, error);
            return CompletableFuture.failedFuture(error);
        });
    }

    private synchronized Link opened(Link link) {
        if (over) {
            link.end();
        }
        own = link;
        return link;
    }

    private synchronized void close() {
        if (own != null) {
            own.end();
        }
        own = null;
    }

    @Override
    public synchronized void end() {
        over = true;
        close();
    }

    @Override
    public synchronized CompletableFuture<Void> ended() {
        return own == null ? CompletableFuture.completedFuture(null) : own.closed();
    }
}
