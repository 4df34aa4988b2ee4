package redislock;

import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.function.BiFunction;
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
    /** It is to a node that an ASK has named, which may get the slot only later: until then it answers who says so. */
    private volatile boolean asking;
    private boolean over;

    Session(Server server, Request request) {
        this.server = server;
        this.words = request.acquire();
    }

    @Override
    CompletableFuture<Object> ask(Words words, int replicas) {
        return OF_ALL.contains(words.command()) ? server.ask(words, 0)
                : on((link, asking) -> Server.send(link, words, replicas, asking));
    }

    @Override
    CompletableFuture<Object> askInTurn(Words words, long wait, Wish wish) {
        boolean forever = wait == Long.MAX_VALUE;
        Words blocking = words.and("BLOCK", forever ? 0 : wait);
        return on((link, asking) -> {
            CompletableFuture<Object> reply = Server.sendTo(link, blocking, asking);
            return forever ? reply : Server.within(wait + ROOM, link, reply);
        });
    }

    private CompletableFuture<Object> on(BiFunction<Link, Boolean, CompletableFuture<Object>> use) {
        return on(use, null);
    }

    /** `asked` is the node that an ASK has named. `use` is told whether to say ASKING. */
    private CompletableFuture<Object> on(BiFunction<Link, Boolean, CompletableFuture<Object>> use, String asked) {
        String address = asked != null ? asked : server.address(words);
        CompletableFuture<Link> link;
        synchronized (this) {
            link = own != null ? CompletableFuture.completedFuture(own)
                    : server.open(address).thenApply(opened -> opened(opened, asked != null));
        }
        return Tasks.orElse(link.thenCompose(open -> use.apply(open, asking)), error -> {
            // By the next connection the hold would not be tied to anything.
            close();
            server.learn(words, address, error);
            return asked == null && Failure.is(error, "ASK") ? on(use, Server.target(error, address))
                    : CompletableFuture.failedFuture(error);
        });
    }

    private synchronized Link opened(Link link, boolean asked) {
        if (over) {
            link.end();
        }
        own = link;
        asking = asked;
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
