package redislock;

import static java.nio.charset.StandardCharsets.UTF_8;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.util.ArrayDeque;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Queue;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.function.Consumer;
import java.util.function.Function;
import java.util.function.Supplier;
import redis.clients.jedis.CommandArguments;
import redis.clients.jedis.Connection;
import redis.clients.jedis.DefaultJedisClientConfig;
import redis.clients.jedis.HostAndPort;
import redis.clients.jedis.Jedis;
import redis.clients.jedis.JedisClientConfig;
import redis.clients.jedis.Protocol;
import redis.clients.jedis.exceptions.JedisConnectionException;
import redis.clients.jedis.exceptions.JedisDataException;
import redis.clients.jedis.exceptions.JedisException;
import redis.clients.jedis.util.JedisClusterCRC16;

/**
 * Locks on Jedis. They have connections of their own, with the settings that are given: one for all who ask, up to 32 more for
 * those who wait, in slices shorter than the socket timeout, and one for each session. Who waits beyond that has a place in
 * the queue all the same, and is called by a message on one more connection.
 */
public final class JedisLocks {
    private static final int BLOCKED = 32;

    private JedisLocks() {}

    /**
     * Of one server, with the settings that Jedis has by default.
     *
     * @param server its address
     * @return the locks, to be closed
     */
    public static Locks of(HostAndPort server) {
        return of(server, DefaultJedisClientConfig.builder().build());
    }

    /**
     * Of one server.
     *
     * @param server its address
     * @param config how to connect to it, as for a client of Jedis
     * @return the locks, to be closed
     */
    public static Locks of(HostAndPort server, JedisClientConfig config) {
        return new Locks(new Server(new JedisLibrary(() -> server, Set.of(), config)));
    }

    /**
     * Of the master that Sentinels name.
     *
     * @param master its name
     * @param sentinels their addresses
     * @param config how to connect to the master
     * @param sentinelConfig how to connect to the Sentinels
     * @return the locks, to be closed
     */
    public static Locks sentinel(String master, Set<HostAndPort> sentinels, JedisClientConfig config,
            JedisClientConfig sentinelConfig) {
        Supplier<HostAndPort> asked = () -> first(sentinels, sentinel -> masterOf(master, sentinel, sentinelConfig));
        return new Locks(new Server(new JedisLibrary(asked, Set.of(), config)));
    }

    /**
     * Of a cluster. Asks it for its slots, so one of the nodes has to be there.
     *
     * @param nodes some of its nodes
     * @param config how to connect to all of them
     * @return the locks, to be closed
     */
    public static Locks cluster(Set<HostAndPort> nodes, JedisClientConfig config) {
        if (nodes.isEmpty()) {
            throw new IllegalArgumentException("a cluster without nodes");
        }
        return new Locks(new Server(new JedisLibrary(null, Set.copyOf(nodes), config)));
    }

    private static HostAndPort masterOf(String master, HostAndPort sentinel, JedisClientConfig config) {
        try (Jedis jedis = new Jedis(sentinel, config)) {
            List<String> address = jedis.sentinelGetMasterAddrByName(master);
            if (address == null) {
                throw new JedisConnectionException("This Sentinel does not know " + master + ".");
            }
            return new HostAndPort(address.get(0), Integer.parseInt(address.get(1)));
        }
    }

    /** What the first of them says that says anything. */
    private static <T> T first(Set<HostAndPort> nodes, Function<HostAndPort, T> ask) {
        JedisException last = new JedisConnectionException("There is nobody to ask.");
        for (HostAndPort each : nodes) {
            try {
                return ask.apply(each);
            } catch (JedisException e) {
                last = e;
            }
        }
        throw last;
    }

    private static Map<Integer, String> ownersIn(HostAndPort node, JedisClientConfig config) {
        Map<Integer, String> owners = new HashMap<>();
        try (Jedis jedis = new Jedis(node, config)) {
            for (Object range : (List<?>) jedis.sendCommand(Protocol.Command.CLUSTER, "SLOTS")) {
                List<?> parts = (List<?>) range;
                List<?> master = (List<?>) parts.get(2);
                // Without a host it is that of the node that says so.
                String host = master.get(0) instanceof byte[] bytes && bytes.length > 0 ? new String(bytes, UTF_8)
                        : node.getHost();
                for (long slot = (Long) parts.get(0); slot <= (Long) parts.get(1); slot++) {
                    owners.put((int) slot, host + ":" + master.get(1));
                }
            }
        }
        if (owners.isEmpty()) {
            throw new JedisConnectionException("This node knows of no slots.");
        }
        return owners;
    }

    private record JedisLibrary(Supplier<HostAndPort> only, Set<HostAndPort> seeds, JedisClientConfig config)
            implements Library {
        @Override
        public Map<Integer, String> owners() {
            return seeds.isEmpty() ? Map.of() : first(seeds, node -> ownersIn(node, config));
        }

        @Override
        public int slot(byte[] key) {
            return JedisClusterCRC16.getSlot(key);
        }

        @Override
        public int blocked() {
            return BLOCKED;
        }

        @Override
        public Link open(String address) {
            return open(address, server -> new JedisLink(server, config).reading());
        }

        @Override
        public Link openEar(String address, Consumer<byte[]> heard) {
            return open(address, server -> new Ear(server, config, heard).reading());
        }

        private Link open(String address, Function<HostAndPort, Link> how) {
            try {
                return how.apply(address.equals(ONLY) ? only.get() : HostAndPort.from(address));
            } catch (JedisException e) {
                throw failure(e);
            }
        }
    }

    private static Failure failure(JedisException error) {
        return error instanceof JedisDataException ? Failure.reply(error)
                : Failure.noReply("Jedis has no reply: " + error.getMessage(), error);
    }

    /** A connection on which a thread of its own reads, so that nobody who waits for a reply is stuck in the socket. */
    private static class JedisLink extends Connection implements Library.Link {
        /** Its monitor keeps these in step: what is asked, what is answered, and the end, after which neither is. */
        private final Queue<CompletableFuture<Object>> unanswered = new ArrayDeque<>();
        private boolean isOver;
        private final CompletableFuture<Void> closed = new CompletableFuture<>();
        private final long timeout;
        private final boolean isOpen;

        JedisLink(HostAndPort address, JedisClientConfig config) {
            super(address, config);
            timeout = config.getSocketTimeoutMillis() > 0 ? config.getSocketTimeoutMillis() : TIMEOUT;
            isOpen = true;
            setSoTimeout(0);
        }

        JedisLink reading() {
            Tasks.named("redis-lock reader").newThread(this::read).start();
            return this;
        }

        /** Jedis would open another one for the next command, behind our back. */
        @Override
        public void connect() {
            if (!isOpen) {
                super.connect();
            } else if (!isConnected()) {
                throw new JedisConnectionException("The connection was closed.");
            }
        }

        @Override
        public synchronized CompletableFuture<Object> send(Words words) {
            CompletableFuture<Object> reply = new CompletableFuture<>();
            CommandArguments command = new CommandArguments(() -> Words.bytes(words.command()));
            words.arguments().forEach(command::add);
            synchronized (unanswered) {
                if (isOver) {
                    return CompletableFuture.failedFuture(Failure.noReply("The connection was closed.", null));
                }
                unanswered.add(reply);
            }
            try {
                sendCommand(command);
                flush();
            } catch (JedisException e) {
                end(e);
            }
            return reply;
        }

        private void read() {
            try {
                while (true) {
                    Object reply;
                    try {
                        reply = getUnflushedObject();
                    } catch (JedisDataException e) {
                        next().completeExceptionally(failure(e));
                        continue;
                    }
                    read(reply);
                }
            } catch (RuntimeException e) {
                end(e);
            }
        }

        void read(Object reply) {
            next().complete(reply);
        }

        private CompletableFuture<Object> next() {
            synchronized (unanswered) {
                // Fails once it is over: a late reply must not be taken for that to another request.
                return unanswered.remove();
            }
        }

        @Override
        public CompletableFuture<?> end() {
            end(new JedisConnectionException("The connection was closed."));
            return closed;
        }

        /** In the background, because what is stuck in the socket may hold up its end, too. */
        private void end(RuntimeException why) {
            List<CompletableFuture<Object>> lost;
            synchronized (unanswered) {
                isOver = true;
                lost = List.copyOf(unanswered);
                unanswered.clear();
            }
            if (closed.complete(null)) {
                Tasks.BACKGROUND.execute(this::disconnect);
            }
            Failure failure = Failure.noReply("The connection is gone: " + why.getMessage(), why);
            lost.forEach(reply -> reply.completeExceptionally(failure));
        }

        @Override
        public void disconnect() {
            try {
                forceDisconnect();
            } catch (IOException alreadyGone) {
                setBroken();
            }
        }

        @Override
        public long timeout() {
            return timeout;
        }

        @Override
        public CompletableFuture<Void> closed() {
            return closed;
        }
    }

    private static final class Ear extends JedisLink {
        private final Consumer<byte[]> heard;
        private final Set<ByteBuffer> unwanted = ConcurrentHashMap.newKeySet();

        Ear(HostAndPort address, JedisClientConfig config, Consumer<byte[]> heard) {
            super(address, config);
            this.heard = heard;
        }

        @Override
        public synchronized CompletableFuture<Object> send(Words words) {
            if (words.command().equals("SUNSUBSCRIBE")) {
                unwanted.add(ByteBuffer.wrap(words.key()));
            }
            return super.send(words);
        }

        @Override
        void read(Object reply) {
            List<?> message = (List<?>) reply;
            String kind = new String((byte[]) message.get(0), UTF_8);
            if (kind.equals("smessage")) {
                heard.accept((byte[]) message.get(2));
            } else if (kind.equals("sunsubscribe") && !unwanted.remove(ByteBuffer.wrap((byte[]) message.get(1)))) {
                // The slot has moved.
                end();
            } else {
                super.read(reply);
            }
        }
    }
}
