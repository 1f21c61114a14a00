package clients;

import static clients.Daemon.hold;
import static clients.Daemon.member;

import clients.Daemon.Principal;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;
import java.security.KeyFactory;
import java.security.MessageDigest;
import java.security.Signature;
import java.security.spec.X509EncodedKeySpec;
import java.time.ZoneOffset;
import java.time.ZonedDateTime;
import java.time.format.DateTimeFormatter;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.HashSet;
import java.util.HexFormat;
import java.util.concurrent.CompletableFuture;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

/** The JDK's own HTTP client, with a signature of version 4 made by hand: no SDK, no JSON library. */
final class JdkClient {
  private static final String JSON = "application/x-amz-json-1.1";
  private static final String FORM = "application/x-www-form-urlencoded; charset=utf-8";
  private static final DateTimeFormatter TIME = DateTimeFormatter.ofPattern("yyyyMMdd'T'HHmmss'Z'");
  private static final int AT_ONCE = 64;

  private final Daemon daemon;
  private final HttpClient client;

  private JdkClient(Daemon daemon, HttpClient.Version version) {
    this.daemon = daemon;
    this.client = HttpClient.newBuilder().version(version).build();
  }

  public static void main(String[] arguments) throws Exception {
    var daemon = Daemon.find();
    // With the second, which is the default, it asks for an upgrade of the plain connection.
    for (var version : HttpClient.Version.values()) {
      new JdkClient(daemon, version).run();
    }
    daemon.report("JDK HttpClient", System.getProperty("java.version"));
  }

  private void run() throws Exception {
    Principal admin = daemon.principal("admin"), provisioner = daemon.principal("provisioner"), consumer = daemon.principal("consumer");
    var context = "\"EncryptionContext\":{\"tenant\":\"Zoë\"}";
    var pending = new ArrayList<CompletableFuture<HttpResponse<String>>>();
    for (int number = 0; number < AT_ONCE; number++) {
      var body = "{\"KeyId\":\"alias/containers\",\"KeySpec\":\"AES_256\"," + context + "}";
      pending.add(client.sendAsync(kms(provisioner, "GenerateDataKeyWithoutPlaintext", body), BodyHandlers.ofString()));
    }
    var keys = new HashSet<String>();
    for (var answer : pending) {
      var blob = member(answered(answer.join()), "CiphertextBlob");
      hold(Base64.getDecoder().decode(blob).length == 96, blob);
      var opened = ask(consumer, "Decrypt", "{\"CiphertextBlob\":\"" + blob + "\"," + context + "}");
      hold(Base64.getDecoder().decode(member(opened, "Plaintext")).length == 32, opened);
      keys.add(member(opened, "Plaintext"));
      refused(400, "InvalidCiphertextException", kms(consumer, "Decrypt", "{\"CiphertextBlob\":\"" + blob + "\"}"));
      refused(400, "AccessDeniedException", kms(provisioner, "Decrypt", "{\"CiphertextBlob\":\"" + blob + "\"," + context + "}"));
    }
    hold(keys.size() == AT_ONCE, "a data key came twice");
    var made = ask(admin, "GenerateDataKey", "{\"KeyId\":\"alias/containers\",\"NumberOfBytes\":1024}");
    var opened = ask(consumer, "Decrypt", "{\"CiphertextBlob\":\"" + member(made, "CiphertextBlob") + "\"}");
    hold(member(made, "Plaintext").equals(member(opened, "Plaintext")), "the data key is another one");
    signature(admin);
    refused(400, "InvalidSignatureException", kms(admin.withSecret("another"), "ListKeys", "{}"));
    who(admin);
  }

  /** A signature that the JDK verifies with the key that was exported. */
  private void signature(Principal admin) throws Exception {
    var text = "what a container holds".getBytes(StandardCharsets.UTF_8);
    var key = member(ask(admin, "CreateKey", "{\"KeySpec\":\"ECC_NIST_P384\",\"KeyUsage\":\"SIGN_VERIFY\"}"), "KeyId");
    var body = "{\"KeyId\":\"" + key + "\",\"SigningAlgorithm\":\"ECDSA_SHA_384\",\"Message\":\"" + Base64.getEncoder().encodeToString(text) + "\"}";
    var made = Base64.getDecoder().decode(member(ask(admin, "Sign", body), "Signature"));
    var exported = Base64.getDecoder().decode(member(ask(admin, "GetPublicKey", "{\"KeyId\":\"" + key + "\"}"), "PublicKey"));
    var verifier = Signature.getInstance("SHA384withECDSA");
    verifier.initVerify(KeyFactory.getInstance("EC").generatePublic(new X509EncodedKeySpec(exported)));
    verifier.update(text);
    hold(verifier.verify(made), "not a signature of the text");
  }

  /** AWS STS, on the same endpoint. */
  private void who(Principal admin) throws Exception {
    var request = signed(admin, "sts", "Action=GetCallerIdentity&Version=2011-06-15", "content-type", FORM);
    var body = answered(client.send(request, BodyHandlers.ofString()));
    hold(body.contains("<Arn>" + admin.arn() + "</Arn>") && body.contains("<Account>" + daemon.account() + "</Account>"), body);
  }

  private String ask(Principal who, String operation, String body) throws Exception {
    return answered(client.send(kms(who, operation, body), BodyHandlers.ofString()));
  }

  private String answered(HttpResponse<String> answer) {
    daemon.calls.incrementAndGet();
    hold(answer.statusCode() == 200, answer.statusCode() + " " + answer.body());
    return answer.body();
  }

  private void refused(int status, String code, HttpRequest request) throws Exception {
    var answer = client.send(request, BodyHandlers.ofString());
    daemon.calls.incrementAndGet();
    hold(answer.statusCode() == status && member(answer.body(), "__type").equals(code), answer.body() + " instead of " + code);
  }

  private HttpRequest kms(Principal who, String operation, String body) throws Exception {
    return signed(who, "kms", body, "content-type", JSON, "x-amz-target", "TrentService." + operation);
  }

  /** A POST with these headers, in the order of their names, and a signature of version 4. */
  private HttpRequest signed(Principal who, String service, String body, String... headers) throws Exception {
    URI endpoint = daemon.endpoint();
    var time = ZonedDateTime.now(ZoneOffset.UTC).format(TIME);
    var lines = new ArrayList<String>();
    for (int at = 0; at < headers.length; at += 2) {
      lines.add(headers[at] + ":" + headers[at + 1]);
    }
    lines.addAll(Arrays.asList("host:" + endpoint.getAuthority(), "x-amz-date:" + time));
    lines.sort(null);
    var names = String.join(";", lines.stream().map(line -> line.substring(0, line.indexOf(':'))).toList());
    var canonical = String.join("\n", "POST", "/", "", String.join("\n", lines), "", names, hash(body));
    var scope = String.join("/", time.substring(0, 8), daemon.region(), service, "aws4_request");
    var key = ("AWS4" + who.secretAccessKey()).getBytes(StandardCharsets.UTF_8);
    for (var part : scope.split("/")) {
      key = mac(key, part);
    }
    var signature = HexFormat.of().formatHex(mac(key, String.join("\n", "AWS4-HMAC-SHA256", time, scope, hash(canonical))));
    var authorization = "AWS4-HMAC-SHA256 Credential=" + who.accessKeyId() + "/" + scope + ", SignedHeaders=" + names + ", Signature=" + signature;
    return HttpRequest.newBuilder(endpoint.resolve("/")).headers(headers).header("x-amz-date", time)
        .header("authorization", authorization).POST(BodyPublishers.ofString(body)).build();
  }

  private static String hash(String text) throws Exception {
    return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(text.getBytes(StandardCharsets.UTF_8)));
  }

  private static byte[] mac(byte[] key, String text) throws Exception {
    var mac = Mac.getInstance("HmacSHA256");
    mac.init(new SecretKeySpec(key, "HmacSHA256"));
    return mac.doFinal(text.getBytes(StandardCharsets.UTF_8));
  }
}
