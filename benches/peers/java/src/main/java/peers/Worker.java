package peers;

import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import java.util.stream.Collectors;
import org.redisson.Redisson;
import org.redisson.api.RLock;
import org.redisson.api.RedissonClient;
import org.redisson.config.Config;
import redis.clients.jedis.HostAndPort;
import redislock.AcquireOptions;
import redislock.HeldLock;
import redislock.JedisLocks;
import redislock.Locks;

/**
 * worker LIBRARY PORT SCENARIO [NUMBER [NUMBER]]: does the work of one scenario with one library, and says what it saw as JSON.
 * benches/peers/README.md has the scenarios. Libraries are used as they come, but for the lease, which each is told.
 */
public final class Worker {
    private static final long HOLD_MS = 1;
    private static final long LEASE_MS = 30_000;

    /** Takes a lock. What it returns gives the lock back, on the same thread. */
    private interface Taker {
        Runnable take(String name, long leaseMs) throws Exception;
    }

    private static Taker redisLock(int port) {
        Locks locks = JedisLocks.of(new HostAndPort("127.0.0.1", port));
        return (name, leaseMs) -> {
            HeldLock held = locks.acquire(name, AcquireOptions.defaults().lease(Duration.ofMillis(leaseMs)));
            return held::close;
        };
    }

    private static Taker redisson(int port, boolean fair) {
        Config config = new Config();
        config.useSingleServer().setAddress("redis://127.0.0.1:" + port);
        RedissonClient client = Redisson.create(config);
        return (name, leaseMs) -> {
            RLock lock = fair ? client.getFairLock(name) : client.getLock(name);
            lock.lock(leaseMs, TimeUnit.MILLISECONDS);
            return lock::unlock;
        };
    }

    private static double us(long began) {
        return (System.nanoTime() - began) / 1000.0;
    }

    private static String list(List<? extends Number> numbers) {
        return numbers.stream().map(String::valueOf).collect(Collectors.joining(",", "[", "]"));
    }

    private static String pairs(Taker taker, int count) throws Exception {
        List<Double> spans = new ArrayList<>();
        for (int number = 0; number < count + 1000; number++) {
            long began = System.nanoTime();
            taker.take("pairs", LEASE_MS).run();
            if (number >= 1000) {
                spans.add(us(began));
            }
        }
        return "{\"us\":" + list(spans) + "}";
    }

    private static String contend(Taker taker, int clients, int ms) throws Exception {
        List<Double> waits = Collections.synchronizedList(new ArrayList<>());
        List<AtomicLong> grants = new ArrayList<>();
        List<Thread> threads = new ArrayList<>();
        long end = System.nanoTime() + ms * 1_000_000L;
        for (int number = 0; number < clients; number++) {
            AtomicLong own = new AtomicLong();
            grants.add(own);
            threads.add(start(() -> {
                while (System.nanoTime() < end) {
                    long began = System.nanoTime();
                    Runnable give = taker.take("contended", LEASE_MS);
                    waits.add(us(began));
                    if (System.nanoTime() < end) {
                        own.incrementAndGet();
                    }
                    Thread.sleep(HOLD_MS);
                    give.run();
                }
            }));
        }
        for (Thread thread : threads) {
            thread.join();
        }
        return "{\"grants\":" + list(grants) + ",\"us\":" + list(waits) + "}";
    }

    private interface Work {
        void run() throws Exception;
    }

    private static Thread start(Work work) {
        Thread thread = new Thread(() -> {
            try {
                work.run();
            } catch (Exception e) {
                e.printStackTrace();
                System.exit(1);
            }
        });
        thread.start();
        return thread;
    }

    private static String handOver(Taker taker, int count) throws Exception {
        List<Double> spans = new ArrayList<>();
        for (int number = 0; number < count; number++) {
            Runnable give = taker.take("handed", LEASE_MS);
            AtomicLong returned = new AtomicLong();
            Thread waiter = start(() -> {
                Runnable mine = taker.take("handed", LEASE_MS);
                returned.set(System.nanoTime());
                mine.run();
            });
            Thread.sleep(250);
            long began = System.nanoTime();
            give.run();
            waiter.join();
            spans.add((returned.get() - began) / 1000.0);
        }
        return "{\"us\":" + list(spans) + "}";
    }

    private static String crowd(Taker taker, int waiters) throws Exception {
        Runnable give = taker.take("crowded", 600_000);
        CountDownLatch done = new CountDownLatch(waiters);
        for (int number = 0; number < waiters; number++) {
            start(() -> {
                taker.take("crowded", 600_000).run();
                done.countDown();
            });
        }
        Thread.sleep(3000);
        long began = System.nanoTime();
        give.run();
        done.await();
        return "{\"ms\":" + us(began) / 1000 + "}";
    }

    public static void main(String[] words) throws Exception {
        int port = Integer.parseInt(words[1]);
        int first = words.length > 3 ? Integer.parseInt(words[3]) : 0;
        Taker taker = words[0].equals("redis-lock") ? redisLock(port) : redisson(port, words[0].equals("redisson-fair"));
        String seen = "{}";
        switch (words[2]) {
            case "pairs" -> seen = pairs(taker, first);
            case "contend" -> seen = contend(taker, first, Integer.parseInt(words[4]));
            case "hand-over" -> seen = handOver(taker, first);
            case "crowd" -> seen = crowd(taker, first);
            case "hold" -> {
                taker.take("dying", first > 0 ? first : LEASE_MS);
                System.out.println("held");
                Thread.sleep(600_000);
            }
            case "wait" -> {
                System.out.println("waiting");
                Runnable give = taker.take("dying", LEASE_MS);
                System.out.println("granted");
                give.run();
            }
            default -> throw new IllegalArgumentException(words[2]);
        }
        System.out.println(seen);
        System.exit(0);
    }
}
