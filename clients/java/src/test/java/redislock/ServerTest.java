package redislock;

import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Timeout;

/** Tests against one server, which is there for all of a class. */
@Timeout(120)
abstract class ServerTest {
    static LockServer server;

    @BeforeAll
    static void start() {
        server = new LockServer();
    }

    @AfterAll
    static void stop() throws Exception {
        server.close();
    }
}
