package redislock;

import static redislock.Tasks.now;
import static redislock.Tasks.orElse;

import java.util.ArrayDeque;
import java.util.Deque;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Semaphore;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.function.BiFunction;
import java.util.function.Function;
import java.util.function.Supplier;
import redislock.Attempt.Wish;
import redislock.Library.Link;

/** One server, or the nodes of a cluster: which of them is asked, on which connection, and how one waits. */
final class Server extends Steps implements Remote.Place {
    private static final int REDIRECTIONS = 5;
    /** How many connections are kept for the next one who needs one for himself. */
    private static final int IDLE = 32;

    private final Library library;
    /** One connection to each node, for all who ask and wait for nothing. */
    private final Map<String, CompletableFuture<Link>> shared = new ConcurrentHashMap<>();
    /** Connections on which one request at a time is for itself: because it waits, or because WAIT comes behind it. */
    private final Map<String, Deque<Link>> idle = new ConcurrentHashMap<>();
    private final Semaphore blocked;
    private final Map<String, Calls> calls = new ConcurrentHashMap<>();
    /** Which node has a slot. Who does not know asks any node, and is told. */
    private final Map<Integer, String> owners;
    private final Set<String> nodes = ConcurrentHashMap.newKeySet();
    /** Those that did not reply when they were asked last. */
    private final Set<String> quiet = ConcurrentHashMap.newKeySet();
    private final Set<Link> open = ConcurrentHashMap.newKeySet();
    private volatile boolean closed;

    Server(Library library) {
        this.library = library;
        this.blocked = new Semaphore(library.blocked());
        this.owners = new ConcurrentHashMap<>(library.owners());
        nodes.addAll(owners.values());
    }

    @Override
    public Remote forHold(Request request) {
        if (!nodes.isEmpty() && request.names.stream().mapToInt(this::slot).distinct().count() > 1) {
            throw new IllegalArgumentException("In a cluster, locks that are acquired together are in one slot: put the same"
                    + " {tag} in all names.");
        }
        return request.session ? new Session(this, request) : this;
    }

    private int slot(String name) {
        return library.slot(Words.bytes(name));
    }

    @Override
    CompletableFuture<Object> ask(Words words, int replicas) {
        return follow(words, replicas > 0, (link, asking) -> send(link, words, replicas, asking), null, 0);
    }

    @Override
    CompletableFuture<Object> askInTurn(Words words, long wait, Wish wish) {
        if (blocked.tryAcquire()) {
            long sent = now();
            // Well below the timeout: the end of BLOCK is a reply, and not a lost one.
            BiFunction<Link, Boolean, CompletableFuture<Object>> block = (link, asking) -> send(link,
                    words.and("BLOCK", Math.max(1, Math.min(Math.min(wait, REPEAT), link.timeout() / 2))), 0, asking);
            return follow(words, true, block, null, 0).whenComplete((reply, error) -> blocked.release())
                    .thenCompose(reply -> {
                        // Where BLOCK is ignored.
                        long rest = sent + Math.min(wait, PAUSE) - now();
                        return reply instanceof Long && rest > 0
                                ? wish.during(Tasks.pause(rest)).thenApply(over -> reply)
                                : CompletableFuture.completedFuture(reply);
                    });
        }
        long sent = now();
        return ask(words, 0).thenCompose(reply -> {
            String address = address(words);
            return !(reply instanceof Long ticket) ? CompletableFuture.completedFuture(reply)
                    : calls.computeIfAbsent(address, a -> new Calls(heard -> open(() -> library.openEar(a, heard))))
                            .await(words.key(), ticket, sent, Math.min(wait, REPEAT), wish).thenApply(called -> reply);
        });
    }

    /** Asks the node that has the lock, and those that its replies name. `how` is told whether to say ASKING. */
    private CompletableFuture<Object> follow(Words words, boolean isAlone,
            BiFunction<Link, Boolean, CompletableFuture<Object>> how, String asking, int redirections) {
        String address = asking != null ? asking : address(words);
        Function<Link, CompletableFuture<Object>> use = link -> how.apply(link, asking != null);
        var reply = isAlone ? alone(address, use) : shared(address).thenCompose(use);
        return orElse(reply, error -> {
            learn(words, address, error);
            boolean isAsk = Failure.is(error, "ASK");
            if (redirections == REDIRECTIONS || !isAsk && !Failure.is(error, "MOVED")) {
                return CompletableFuture.failedFuture(error);
            }
            return follow(words, isAlone, how, isAsk ? target(error, address) : null, redirections + 1);
        });
    }

    /** In a cluster, of the node that has the lock. */
    String address(Words words) {
        if (nodes.isEmpty()) {
            return Library.ONLY;
        }
        String known = owners.get(library.slot(words.key()));
        if (known != null) {
            return known;
        }
        List<String> others = nodes.stream().filter(node -> !quiet.contains(node)).toList();
        if (others.isEmpty()) {
            quiet.clear();
            others = List.copyOf(nodes);
        }
        return others.get(ThreadLocalRandom.current().nextInt(others.size()));
    }

    /** What an error says of the node that has the lock. */
    void learn(Words words, String address, Throwable error) {
        if (nodes.isEmpty()) {
            if (Failure.is(error, "READONLY") || Failure.is(error, "MASTERDOWN")) {
                // It is no master any more. New connections go to the one that Sentinels, or a name, stand for now.
                open.forEach(Link::end);
            }
        } else if (Failure.is(error, "MOVED")) {
            String owner = target(error, address);
            nodes.add(owner);
            quiet.remove(owner);
            owners.put(library.slot(words.key()), owner);
        } else if (Failure.isNoReply(error) || Failure.is(error, "CLUSTERDOWN")) {
            // Any other node knows who has its slots now, and says so.
            quiet.add(address);
            owners.values().removeIf(address::equals);
        }
    }

    /** The node that a redirection names. Without a host it is that of the node that says so. */
    static String target(Throwable error, String address) {
        String named = error.getMessage().split(" ")[2];
        return named.startsWith(":") ? address.substring(0, address.lastIndexOf(':')) + named : named;
    }

    private CompletableFuture<Link> shared(String address) {
        return shared.compute(address, (a, link) -> link == null || isGone(link) ? open(a) : link);
    }

    private static boolean isGone(CompletableFuture<Link> link) {
        return link.isCompletedExceptionally() || link.isDone() && link.join().closed().isDone();
    }

    private <T> CompletableFuture<T> alone(String address, Function<Link, CompletableFuture<T>> use) {
        Deque<Link> deque = idle.computeIfAbsent(address, a -> new ArrayDeque<>());
        Link last;
        synchronized (deque) {
            do {
                last = deque.pollLast();
            } while (last != null && last.closed().isDone());
        }
        CompletableFuture<Link> link = last != null ? CompletableFuture.completedFuture(last) : open(address);
        return link.thenCompose(own -> use.apply(own).whenComplete((reply, error) -> {
            synchronized (deque) {
                if (!own.closed().isDone() && deque.size() < IDLE) {
                    deque.addLast(own);
                    return;
                }
            }
            own.end();
        }));
    }

    CompletableFuture<Link> open(String address) {
        return open(() -> library.open(address));
    }

    private CompletableFuture<Link> open(Supplier<Link> how) {
        if (closed) {
            return CompletableFuture.failedFuture(new LockException("These locks are closed.", null));
        }
        return CompletableFuture.supplyAsync(() -> {
            Link link = how.get();
            open.add(link);
            link.closed().thenRun(() -> open.remove(link));
            if (closed) {
                link.end();
            }
            return link;
        }, Tasks.BACKGROUND);
    }

    /** However long the reply takes. */
    static CompletableFuture<Object> sendTo(Link link, Words words, boolean asking) {
        synchronized (link) {
            if (asking) {
                link.send(Words.of("ASKING"));
            }
            return link.send(words);
        }
    }

    static CompletableFuture<Object> send(Link link, Words words, int replicas, boolean asking) {
        CompletableFuture<Object> reply;
        CompletableFuture<Object> confirmed;
        synchronized (link) {
            reply = within(link.timeout(), link, sendTo(link, words, asking));
            if (replicas == 0) {
                return reply;
            }
            confirmed = within(link.timeout(), link, link.send(
                    Words.of("WAIT", replicas, Math.max(1, Math.min(1_000, link.timeout() / 2)))));
        }
        return reply.thenCombine(confirmed, (done, number) -> {
            if (words.isYes(done) && (Long) number < replicas) {
                throw new LockException.TooFewReplicas(
                        number + " of " + replicas + " replicas have confirmed it in time.");
            }
            return done;
        });
    }

    /** What is not answered in time never will be on this connection, as far as anybody can tell. */
    static CompletableFuture<Object> within(long timeout, Link link, CompletableFuture<Object> reply) {
        return orElse(reply.orTimeout(timeout, TimeUnit.MILLISECONDS), error -> {
            if (!(error instanceof TimeoutException)) {
                return CompletableFuture.failedFuture(error);
            }
            link.end();
            return CompletableFuture.failedFuture(
                    Failure.noReply("There was no reply for " + timeout + " ms.", error));
        });
    }

    @Override
    public void close() {
        closed = true;
        var ends = open.stream().map(Link::end).toArray(CompletableFuture[]::new);
        CompletableFuture.allOf(ends).completeOnTimeout(null, 1, TimeUnit.SECONDS).join();
    }
}
