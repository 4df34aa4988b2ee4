package redislock;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.regex.MatchResult;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The programs of README.md, as they are there but for the ports, each with nothing but its own library. */
class ReadmeTest {
    private static final Pattern PROGRAM = Pattern.compile("```java\n(.*?)```", Pattern.DOTALL);

    @TempDir
    Path folder;

    private static List<String> programs() throws IOException {
        return PROGRAM.matcher(Files.readString(Path.of("README.md"))).results().map((MatchResult each) -> each.group(1)).toList();
    }

    private String run(String program, String without) throws Exception {
        String classes = Arrays.stream(System.getProperty("java.class.path").split(File.pathSeparator))
                .filter(entry -> !Pattern.compile(without).matcher(entry).find()).collect(Collectors.joining(File.pathSeparator));
        Path source = Files.writeString(folder.resolve("Program.java"), program);
        Path output = folder.resolve("output");
        Process process = new ProcessBuilder(Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                "-cp", classes, source.toString()).redirectErrorStream(true).redirectOutput(output.toFile()).start();
        try {
            assertTrue(process.waitFor(60, java.util.concurrent.TimeUnit.SECONDS), "it does not end");
        } finally {
            process.destroyForcibly();
        }
        String said = Files.readString(output);
        assertEquals(0, process.exitValue(), said);
        return said;
    }

    private static void assertHeld(String said) {
        assertTrue(said.matches("working with fence \\d{16}\n"), said);
    }

    @Test
    void eachProgramHoldsTheLock() throws Exception {
        try (LockServer server = new LockServer()) {
            String jedis = programs().get(0).replace("6379", "" + server.port);
            assertHeld(run(jedis, "lettuce|netty|reactor"));
            assertTrue(server.isFree("order:44"));
            String lettuce = programs().get(1).replace("6379", "" + server.port);
            assertHeld(run(lettuce, "jedis"));
            assertTrue(server.isFree("order:44"));
            server.ask("LOCK.ACQUIRE", "order:44", "TOKEN", "other", "PX", "60000");
            server.ask("SET", "total:{7}:a", "50");
            String several = programs().get(2).replace("6379", "" + server.port);
            assertEquals("left of it: 40\n", run(several, "lettuce|netty|reactor"));
            assertEquals("10", server.ask("GET", "total:{7}:b"));
            assertTrue(server.isFree("account:{7}:b"));
            assertEquals("somebody else is at it\n", run(jedis.replace("(20)", "(1)"), "lettuce|netty|reactor"));
        }
    }

    @Test
    void redlockHoldsTheLockOfFive() throws Exception {
        String program = programs().get(3);
        List<LockServer> servers = List.of("a", "b", "c", "d", "e").stream().map(each -> new LockServer()).toList();
        try {
            for (int i = 0; i < servers.size(); i++) {
                program = program.replace("abcde".charAt(i) + ":6379", "127.0.0.1:" + servers.get(i).port);
            }
            assertEquals("working\n", run(program, "lettuce|netty|reactor"));
            for (LockServer each : servers) {
                LockServer.until(() -> each.isFree("order:44"));
            }
        } finally {
            for (LockServer each : servers) {
                each.close();
            }
        }
    }
}
