package clients;

import java.io.IOException;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.concurrent.Callable;
import java.util.concurrent.CompletionException;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.regex.Pattern;

/** The daemon that runs, as its JSON line in DAEMON has it, and what the clients share. */
final class Daemon {
  private static final String FACTS = System.getenv("DAEMON");

  /** The calls that it has answered. */
  final AtomicInteger calls = new AtomicInteger();

  record Principal(String arn, String accessKeyId, String secretAccessKey) {
    Principal withSecret(String other) {
      return new Principal(arn, accessKeyId, other);
    }
  }

  URI endpoint() {
    return URI.create(member(FACTS, "endpoint"));
  }

  String region() {
    return member(FACTS, "region");
  }

  String account() {
    return member(FACTS, "account");
  }

  Principal principal(String role) {
    var matcher = Pattern.compile("\"" + role + "\":\\s*(\\{[^}]*})").matcher(FACTS);
    hold(matcher.find(), role);
    var told = matcher.group(1);
    return new Principal(member(told, "arn"), member(told, "access_key_id"), member(told, "secret_access_key"));
  }

  /** A member that is a string without escapes; Java has no JSON of its own. */
  static String member(String json, String name) {
    var matcher = Pattern.compile("\"" + name + "\":\\s*\"([^\"\\\\]*)\"").matcher(json);
    hold(matcher.find(), "no " + name + " in " + json);
    return matcher.group(1);
  }

  /** Leaves the line that names a client. A client that made no call fails. */
  void report(String name, String version) throws IOException {
    var count = calls.getAndSet(0);
    hold(count > 0, name + " made no call");
    var line = name + " " + version + ": " + count + " calls\n";
    var folder = Files.createDirectories(Path.of(System.getenv("CLIENT_LINES")));
    Files.write(folder.resolve(name.toLowerCase().replaceAll("\\W+", "-")), line.getBytes(StandardCharsets.UTF_8));
    System.out.print(line);
  }

  static void hold(boolean holds, String otherwise) {
    if (!holds) {
      throw new AssertionError(otherwise);
    }
  }

  /** Calls, and holds the failure to its type. */
  static <E extends Throwable> E refused(Class<E> type, Callable<?> call) {
    Object answer;
    try {
      answer = call.call();
    } catch (Throwable error) {
      var cause = error instanceof CompletionException ? error.getCause() : error;
      hold(type.isInstance(cause), cause + " instead of " + type);
      return type.cast(cause);
    }
    throw new AssertionError(answer + " instead of " + type);
  }

  private Daemon() {}

  static Daemon find() {
    return new Daemon();
  }
}
