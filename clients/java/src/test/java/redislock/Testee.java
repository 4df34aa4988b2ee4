package redislock;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import io.lettuce.core.ClientOptions;
import io.lettuce.core.RedisClient;
import io.lettuce.core.RedisException;
import io.lettuce.core.RedisURI;
import io.lettuce.core.SslOptions;
import io.lettuce.core.cluster.ClusterClientOptions;
import io.lettuce.core.cluster.RedisClusterClient;
import io.lettuce.core.protocol.ProtocolVersion;
import java.io.BufferedReader;
import java.io.File;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.UncheckedIOException;
import java.net.ServerSocket;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Function;
import redis.clients.jedis.DefaultJedisClientConfig;
import redis.clients.jedis.HostAndPort;
import redis.clients.jedis.JedisClientConfig;
import redis.clients.jedis.RedisProtocol;

/** Does what the conformance runner tells it: see clients/conformance/README.md. Takes `lettuce`, or `jedis` and what follows. */
final class Testee {
    private static final Gson GSON = new GsonBuilder().serializeNulls().disableHtmlEscaping().create();

    private final boolean onJedis;
    private final Map<String, Locks> clients = new ConcurrentHashMap<>();
    private final Map<String, Runnable> shutdowns = new ConcurrentHashMap<>();
    private final Map<String, HeldLock> holds = new ConcurrentHashMap<>();
    private final Map<String, AtomicInteger> losses = new ConcurrentHashMap<>();
    private final Map<String, ExecutorService> actors = new ConcurrentHashMap<>();
    private final Map<Integer, Running> running = new ConcurrentHashMap<>();

    private Testee(boolean onJedis) {
        this.onJedis = onJedis;
    }

    /** An acquire: cancelled by interrupting its thread, but no longer once it has ended. */
    private static final class Running {
        private Thread thread;
        private boolean cancelled;

        synchronized void begin() throws InterruptedException {
            if (cancelled) {
                throw new InterruptedException();
            }
            thread = Thread.currentThread();
        }

        synchronized void end() {
            thread = null;
            Thread.interrupted();
        }

        synchronized void cancel() {
            cancelled = true;
            if (thread != null) {
                thread.interrupt();
            }
        }
    }

    public static void main(String[] args) throws IOException {
        Testee testee = new Testee(args[0].startsWith("jedis"));
        if (!testee.onJedis) {
            loadLettuce();
        }
        say(GSON.fromJson("{'ready': true, 'protocols': [2, 3],"
                + " 'places': ['standalone', 'sentinel', 'cluster', 'redlock'],"
                + " 'cannot': {'redlock several': 'each lock is acquired by itself',"
                + " 'redlock guard': 'no server knows whether the majority holds the lock'}}", JsonObject.class));
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line; (line = input.readLine()) != null;) {
            testee.told(GSON.fromJson(line, JsonObject.class));
        }
        System.exit(0);
    }

    /** Some thousand classes take longer than the timeouts of the cases, on a machine that has more to do. */
    private static void loadLettuce() throws IOException {
        for (String scheme : List.of("redis", "rediss")) {
            try (ServerSocket closed = new ServerSocket(0)) {
                RedisClient client = RedisClient.create(scheme + "://127.0.0.1:" + closed.getLocalPort());
                Tasks.BACKGROUND.execute(() -> hangUp(closed));
                try {
                    client.connect();
                    throw new AssertionError("nobody is there");
                } catch (RedisException expected) {
                    client.shutdown();
                }
            }
        }
    }

    private static void hangUp(ServerSocket server) {
        try {
            server.accept().close();
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private static synchronized void say(JsonObject reply) {
        System.out.println(GSON.toJson(reply));
        System.out.flush();
    }

    private void told(JsonObject request) {
        int id = request.get("id").getAsInt();
        switch (request.get("do").getAsString()) {
            case "state" -> reply(id, state(request));
            case "cancel" -> {
                Running acquire = running.get(request.get("of").getAsInt());
                if (acquire != null) {
                    acquire.cancel();
                }
                reply(id, new JsonObject());
            }
            case "acquire" -> {
                running.put(id, new Running());
                by(request, id, this::acquire);
            }
            case "extend" -> by(request, id, this::extend);
            case "release" -> by(request, id, this::release);
            case "guard" -> by(request, id, this::guard);
            case "connect" -> by(request, id, this::connect);
            case "close" -> by(request, id, this::close);
            default -> reply(id, outcome("error", "OTHER", "unknown: " + request));
        }
    }

    private interface Doing {
        JsonObject apply(JsonObject request) throws Exception;
    }

    private void by(JsonObject request, int id, Doing what) {
        String actor = request.has("by") ? "by " + request.get("by").getAsString() : "none " + id;
        actors.computeIfAbsent(actor, name -> Executors.newSingleThreadExecutor(Tasks.named(name))).execute(() -> {
            JsonObject done;
            try {
                done = what.apply(request);
            } catch (InterruptedException e) {
                done = outcome("cancelled", null, null);
            } catch (Throwable e) {
                e.printStackTrace();
                done = outcome("error", kind(e), e.toString());
                if (request.get("do").getAsString().equals("connect")) {
                    done.addProperty("error", e.toString());
                }
            }
            running.remove(id);
            reply(id, done);
        });
    }

    private static void reply(int id, JsonObject reply) {
        reply.addProperty("id", id);
        say(reply);
    }

    private static JsonObject outcome(String outcome, String error, String message) {
        JsonObject reply = new JsonObject();
        reply.addProperty("outcome", outcome);
        if (error != null) {
            reply.addProperty("error", error);
            reply.addProperty("message", message);
        }
        return reply;
    }

    private static String kind(Throwable error) {
        return switch (error.getClass().getSimpleName()) {
            case "NotAcquired" -> "NOTACQUIRED";
            case "Lost" -> "LOST";
            case "QueueFull" -> "QUEUEFULL";
            case "Deadlock" -> "DEADLOCK";
            case "NotPermitted" -> "NOPERM";
            case "WrongType" -> "WRONGTYPE";
            case "TooFewReplicas" -> "REPLICAS";
            case "NoReply" -> "CONNECTION";
            default -> "OTHER";
        };
    }

    private JsonObject connect(JsonObject request) throws Exception {
        String client = request.get("client").getAsString();
        List<Runnable> shutdown = new ArrayList<>();
        clients.put(client, onJedis ? onJedis(request) : onLettuce(request, shutdown));
        shutdowns.put(client, () -> shutdown.forEach(Runnable::run));
        return new JsonObject();
    }

    private static List<HostAndPort> servers(JsonObject request) {
        List<HostAndPort> servers = new ArrayList<>();
        for (var each : request.getAsJsonArray("servers")) {
            JsonArray address = each.getAsJsonArray();
            servers.add(new HostAndPort(address.get(0).getAsString(), address.get(1).getAsInt()));
        }
        return servers;
    }

    private static String text(JsonObject request, String name) {
        return request.has(name) && !request.get(name).isJsonNull() ? request.get(name).getAsString() : null;
    }

    private static Locks onJedis(JsonObject request) {
        var config = DefaultJedisClientConfig.builder().timeoutMillis(request.get("timeout").getAsInt())
                .user(text(request, "user")).password(text(request, "password"))
                .protocol(request.get("protocol").getAsInt() == 3 ? RedisProtocol.RESP3 : RedisProtocol.RESP2);
        JedisClientConfig plain = DefaultJedisClientConfig.builder()
                .timeoutMillis(request.get("timeout").getAsInt()).build();
        if (text(request, "ca") != null) {
            config.sslOptions(redis.clients.jedis.SslOptions.builder()
                    .truststore(truststore(text(request, "ca")), "changeit".toCharArray()).trustStoreType("PKCS12").build());
        }
        List<HostAndPort> servers = servers(request);
        Set<HostAndPort> all = new LinkedHashSet<>(servers);
        return switch (request.get("place").getAsString()) {
            case "sentinel" -> JedisLocks.sentinel(text(request, "master"), all, config.build(), plain);
            case "cluster" -> JedisLocks.cluster(all, config.build());
            case "redlock" -> Redlock.of(servers.stream().map(each -> JedisLocks.of(each, config.build())).toList());
            default -> JedisLocks.of(servers.get(0), config.build());
        };
    }

    /** Jedis takes no other kind of file. */
    private static File truststore(String ca) {
        try {
            File file = File.createTempFile("trust", ".p12");
            file.deleteOnExit();
            var store = java.security.KeyStore.getInstance("PKCS12");
            store.load(null, null);
            try (var in = java.nio.file.Files.newInputStream(java.nio.file.Path.of(ca))) {
                store.setCertificateEntry("ca", java.security.cert.CertificateFactory.getInstance("X.509").generateCertificate(in));
            }
            try (var out = java.nio.file.Files.newOutputStream(file.toPath())) {
                store.store(out, "changeit".toCharArray());
            }
            return file;
        } catch (Exception e) {
            throw new IllegalStateException(e);
        }
    }

    private static Locks onLettuce(JsonObject request, List<Runnable> shutdown) {
        Duration timeout = Duration.ofMillis(request.get("timeout").getAsInt());
        var options = ClusterClientOptions.builder()
                .protocolVersion(request.get("protocol").getAsInt() == 3 ? ProtocolVersion.RESP3 : ProtocolVersion.RESP2);
        if (text(request, "ca") != null) {
            options.sslOptions(SslOptions.builder().trustManager(new File(text(request, "ca"))).build());
        }
        List<HostAndPort> servers = servers(request);
        Function<HostAndPort, RedisURI> uri = server -> {
            RedisURI.Builder builder = RedisURI.builder().withHost(server.getHost()).withPort(server.getPort())
                    .withTimeout(timeout).withSsl(text(request, "ca") != null);
            return withUser(request, builder).build();
        };
        Function<RedisURI, Locks> single = each -> {
            RedisClient client = RedisClient.create(each);
            client.setOptions(options.build());
            shutdown.add(client::shutdownAsync);
            return LettuceLocks.of(client);
        };
        switch (request.get("place").getAsString()) {
            case "sentinel":
                RedisURI.Builder sentinels = RedisURI.builder().withSentinelMasterId(text(request, "master"))
                        .withTimeout(timeout);
                servers.forEach(each -> sentinels.withSentinel(each.getHost(), each.getPort()));
                return single.apply(withUser(request, sentinels).build());
            case "cluster":
                RedisClusterClient client = RedisClusterClient.create(servers.stream().map(uri).toList());
                client.setOptions(options.build());
                shutdown.add(client::shutdownAsync);
                return LettuceLocks.of(client);
            case "redlock":
                return Redlock.of(servers.stream().map(uri).map(single).toList());
            default:
                return single.apply(uri.apply(servers.get(0)));
        }
    }

    private static RedisURI.Builder withUser(JsonObject request, RedisURI.Builder builder) {
        String user = text(request, "user");
        return user == null ? builder : builder.withAuthentication(user, text(request, "password"));
    }

    private static AcquireOptions options(JsonObject wanted) {
        AcquireOptions how = AcquireOptions.defaults();
        for (var each : wanted.entrySet()) {
            var value = each.getValue();
            how = switch (each.getKey()) {
                case "lease" -> how.lease(Duration.ofMillis(value.getAsLong()));
                case "wait" -> how.waitFor(Duration.ofMillis(value.getAsLong()));
                case "shared" -> value.getAsBoolean() ? how.shared() : how;
                case "limit" -> how.limit(value.getAsInt());
                case "weight" -> how.weight(value.getAsInt());
                case "owner" -> how.owner(value.getAsString());
                case "level" -> how.level(value.getAsInt());
                case "session" -> value.getAsBoolean() ? how.session() : how;
                case "delay" -> how.delay(Duration.ofMillis(value.getAsLong()));
                case "replicas" -> how.replicas(value.getAsInt());
                case "at_least" -> how.atLeast(Duration.ofMillis(value.getAsLong()));
                case "renew" -> value.getAsBoolean() ? how : how.withoutRenewal();
                case "token" -> how.token(value.getAsString());
                default -> throw new IllegalArgumentException(each.getKey());
            };
        }
        return how;
    }

    private JsonObject acquire(JsonObject request) throws InterruptedException {
        Running acquire = running.get(request.get("id").getAsInt());
        Optional<HeldLock> acquired;
        try {
            acquire.begin();
            Locks locks = clients.get(request.get("client").getAsString());
            AcquireOptions how = options(request.getAsJsonObject("options"));
            acquired = request.has("names") ? locks.tryAcquireAll(texts(request.getAsJsonArray("names")), how)
                    : locks.tryAcquire(request.get("name").getAsString(), how);
        } finally {
            acquire.end();
        }
        if (acquired.isEmpty()) {
            return outcome("none", null, null);
        }
        HeldLock held = acquired.get();
        String as = request.get("as").getAsString();
        AtomicInteger lost = new AtomicInteger();
        losses.put(as, lost);
        holds.put(as, held);
        held.lost().thenRun(lost::incrementAndGet);
        JsonObject reply = outcome("held", null, null);
        reply.addProperty("fence", held.fence());
        reply.addProperty("token", held.token());
        return reply;
    }

    private JsonObject extend(JsonObject request) throws InterruptedException {
        HeldLock held = holds.get(request.get("hold").getAsString());
        JsonObject how = request.getAsJsonObject("options");
        JsonObject reply = new JsonObject();
        reply.addProperty("is", how != null && how.has("lease")
                ? held.extend(Duration.ofMillis(how.get("lease").getAsLong())) : held.extend());
        return reply;
    }

    private static List<String> texts(JsonArray array) {
        return array.asList().stream().map(JsonElement::getAsString).toList();
    }

    private JsonObject guard(JsonObject request) throws InterruptedException {
        HeldLock held = holds.get(request.get("hold").getAsString());
        Object[] command = texts(request.getAsJsonArray("command")).toArray();
        JsonObject reply = new JsonObject();
        String name = text(request, "name");
        reply.add("reply", plain(name == null ? held.guard(command) : held.guardBy(name, command)));
        return reply;
    }

    private static JsonElement plain(Object reply) {
        if (reply instanceof List<?> list) {
            JsonArray array = new JsonArray();
            list.forEach(each -> array.add(plain(each)));
            return array;
        }
        return GSON.toJsonTree(reply instanceof byte[] bytes ? new String(bytes, StandardCharsets.UTF_8) : reply);
    }

    private JsonObject release(JsonObject request) {
        JsonObject reply = new JsonObject();
        reply.addProperty("is", holds.get(request.get("hold").getAsString()).release());
        return reply;
    }

    private JsonObject state(JsonObject request) {
        String as = request.get("hold").getAsString();
        HeldLock held = holds.get(as);
        JsonObject reply = new JsonObject();
        reply.addProperty("held", held.isHeld());
        reply.addProperty("remaining", held.remaining().toMillis());
        reply.addProperty("lost", losses.get(as).get());
        return reply;
    }

    private JsonObject close(JsonObject request) {
        String client = request.get("client").getAsString();
        clients.remove(client).close();
        shutdowns.remove(client).run();
        return new JsonObject();
    }
}
