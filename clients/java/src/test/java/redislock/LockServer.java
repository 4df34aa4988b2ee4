package redislock;

import static java.nio.charset.StandardCharsets.UTF_8;

import io.lettuce.core.RedisClient;
import io.lettuce.core.RedisURI;
import java.io.IOException;
import java.net.ServerSocket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.concurrent.CompletableFuture;
import redis.clients.jedis.DefaultJedisClientConfig;
import redis.clients.jedis.HostAndPort;
import redis.clients.jedis.Jedis;
import redis.clients.jedis.exceptions.JedisException;

/** A server with the module, on a port of its own, in a folder that goes with it. */
final class LockServer implements AutoCloseable {
    /** What the locks are on. */
    enum Kind { JEDIS, LETTUCE }

    /** What gets no reply by then may have been done, and is not always repeated: so longer than the machine may stand still. */
    static final int TIMEOUT = 5_000;

    final int port;
    private final Path folder;
    private final Process process;
    private final List<Runnable> opened = new ArrayList<>();

    LockServer() {
        String module = Objects.requireNonNull(System.getenv("REDIS_LOCK_MODULE"), "REDIS_LOCK_MODULE is not set");
        try {
            try (ServerSocket free = new ServerSocket(0)) {
                port = free.getLocalPort();
            }
            folder = Files.createTempDirectory("redis-lock");
            process = new ProcessBuilder(System.getenv().getOrDefault("REDIS_SERVER", "redis-server"), "--port", "" + port,
                    "--bind", "127.0.0.1", "--save", "", "--enable-debug-command", "yes", "--dir", folder.toString(),
                    "--loadmodule", module)
                    .redirectErrorStream(true).redirectOutput(folder.resolve("log").toFile()).start();
        } catch (IOException e) {
            throw new IllegalStateException("Cannot start redis-server, or what REDIS_SERVER names.", e);
        }
        // Also when the tests are interrupted.
        Runtime.getRuntime().addShutdownHook(new Thread(process::destroyForcibly));
        // And not another one that has got the port meanwhile.
        until(() -> ask("CONFIG", "GET", "dir") instanceof List<?> dir
                && new String((byte[]) dir.get(1)).equals(folder.toRealPath().toString()));
    }

    HostAndPort address() {
        return new HostAndPort("127.0.0.1", port);
    }

    /** Closed with the server. */
    Locks locks(Kind kind) {
        Locks locks;
        if (kind == Kind.JEDIS) {
            locks = JedisLocks.of(address(), DefaultJedisClientConfig.builder().timeoutMillis(TIMEOUT).build());
        } else {
            RedisClient client = RedisClient.create(RedisURI.builder()
                    .withHost("127.0.0.1").withPort(port).withTimeout(Duration.ofMillis(TIMEOUT)).build());
            opened.add(0, client::shutdown);
            locks = LettuceLocks.of(client);
        }
        opened.add(0, locks::close);
        return locks;
    }

    /** Around the clients: text, a number, or null. */
    Object ask(String... words) {
        try (Jedis jedis = new Jedis("127.0.0.1", port)) {
            Object reply = jedis.sendCommand(() -> words[0].getBytes(), Arrays.copyOfRange(words, 1, words.length));
            return reply instanceof byte[] bytes ? new String(bytes) : reply;
        }
    }

    boolean isFree(String name) {
        return ask("LOCK.INFO", name) == null;
    }

    /** What LOCK.INFO says of it, or of the first who holds it. Null if nobody holds it or waits for it. */
    Object field(String name, String field, boolean ofHolder) {
        List<?> info = (List<?>) ask("LOCK.INFO", name);
        if (info == null) {
            return null;
        }
        List<?> from = ofHolder ? (List<?>) ((List<?>) info.get(1)).get(0) : info;
        for (int i = 0; i < from.size(); i += 2) {
            if (text(from.get(i)).equals(field)) {
                return from.get(i + 1) instanceof byte[] bytes ? text(bytes) : from.get(i + 1);
            }
        }
        throw new AssertionError(field);
    }

    static String text(Object reply) {
        return new String((byte[]) reply, UTF_8);
    }

    /** Waits until the lease of each has begun anew. */
    void untilRenewed(String... names) {
        Map<String, Long> last = new HashMap<>();
        Set<String> renewed = new HashSet<>();
        until(() -> {
            for (String name : names) {
                if (!(field(name, "remaining", true) instanceof Long left)) {
                    throw new AssertionError(name + " was not renewed");
                }
                Long before = last.put(name, left);
                if (before != null && left > before) {
                    renewed.add(name);
                }
            }
            return renewed.size() == names.length;
        });
    }

    /** And by the clock of the client. */
    void untilRenewed(HeldLock held) {
        Duration[] last = {held.remaining()};
        boolean[] renewed = {false};
        CompletableFuture<Void> here = CompletableFuture.runAsync(() -> until(() -> {
            Duration left = held.remaining();
            renewed[0] |= left.compareTo(last[0]) > 0;
            last[0] = left;
            return renewed[0];
        }), Tasks.BACKGROUND);
        untilRenewed(held.names().toArray(String[]::new));
        here.join();
    }

    static void until(Callable<Boolean> condition) {
        long deadline = System.nanoTime() + Duration.ofSeconds(30).toNanos();
        while (System.nanoTime() < deadline) {
            try {
                if (condition.call()) {
                    return;
                }
            } catch (JedisException notYet) {
                // The server has just been started.
            } catch (Exception e) {
                throw new AssertionError(e);
            }
            try {
                Thread.sleep(10);
            } catch (InterruptedException e) {
                throw new AssertionError(e);
            }
        }
        throw new AssertionError("It did not come about in 30 seconds.");
    }

    @Override
    public void close() throws IOException {
        opened.forEach(Runnable::run);
        process.destroyForcibly().onExit().join();
        try (var files = Files.list(folder)) {
            for (Path each : files.toList()) {
                Files.delete(each);
            }
        }
        Files.delete(folder);
    }
}
