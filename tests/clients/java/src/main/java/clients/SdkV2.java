package clients;

import static clients.Daemon.hold;
import static clients.Daemon.refused;

import clients.Daemon.Principal;
import java.security.KeyFactory;
import java.security.Signature;
import java.security.spec.X509EncodedKeySpec;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.stream.IntStream;
import software.amazon.awssdk.auth.credentials.AwsBasicCredentials;
import software.amazon.awssdk.auth.credentials.StaticCredentialsProvider;
import software.amazon.awssdk.awscore.client.builder.AwsClientBuilder;
import software.amazon.awssdk.core.SdkBytes;
import software.amazon.awssdk.core.client.config.ClientOverrideConfiguration;
import software.amazon.awssdk.core.util.VersionInfo;
import software.amazon.awssdk.http.SdkHttpClient;
import software.amazon.awssdk.http.apache.ApacheHttpClient;
import software.amazon.awssdk.http.async.SdkAsyncHttpClient;
import software.amazon.awssdk.http.crt.AwsCrtAsyncHttpClient;
import software.amazon.awssdk.http.crt.AwsCrtHttpClient;
import software.amazon.awssdk.http.nio.netty.NettyNioAsyncHttpClient;
import software.amazon.awssdk.http.urlconnection.UrlConnectionHttpClient;
import software.amazon.awssdk.regions.Region;
import software.amazon.awssdk.services.kms.KmsAsyncClient;
import software.amazon.awssdk.services.kms.KmsClient;
import software.amazon.awssdk.services.kms.model.DisabledException;
import software.amazon.awssdk.services.kms.model.GrantListEntry;
import software.amazon.awssdk.services.kms.model.GrantOperation;
import software.amazon.awssdk.services.kms.model.InvalidCiphertextException;
import software.amazon.awssdk.services.kms.model.KeySpec;
import software.amazon.awssdk.services.kms.model.KmsInvalidSignatureException;
import software.amazon.awssdk.services.kms.model.NotFoundException;
import software.amazon.awssdk.services.kms.model.SigningAlgorithmSpec;
import software.amazon.awssdk.services.sts.StsClient;

/** The AWS SDK for Java v2: each of its HTTP clients, synchronous and not, on KMS and STS. */
final class SdkV2 {
  private static final int AT_ONCE = 50;
  private static final Map<String, String> CONTEXT = Map.of("tenant", "Zoë", "container", "container-000000000042");
  private static final String ALIAS = "alias/containers";

  private final Daemon daemon;
  private final Calls calls;

  private SdkV2(Daemon daemon) {
    this.daemon = daemon;
    this.calls = new Calls(daemon);
  }

  public static void main(String[] arguments) throws Exception {
    var daemon = Daemon.find();
    var steps = new SdkV2(daemon);
    for (var http : List.of(ApacheHttpClient.create(), UrlConnectionHttpClient.create(), AwsCrtHttpClient.create())) {
      steps.synchronous(http);
      daemon.report("AWS SDK for Java v2 with " + http.clientName(), VersionInfo.SDK_VERSION);
    }
    for (var http : List.of(NettyNioAsyncHttpClient.create(), AwsCrtAsyncHttpClient.create())) {
      steps.asynchronous(http);
      daemon.report("AWS SDK for Java v2 with asynchronous " + http.clientName(), VersionInfo.SDK_VERSION);
    }
  }

  private <B extends AwsClientBuilder<B, C>, C> B told(B builder, Principal who) {
    var credentials = AwsBasicCredentials.create(who.accessKeyId(), who.secretAccessKey());
    return builder.endpointOverride(daemon.endpoint()).region(Region.of(daemon.region()))
        .credentialsProvider(StaticCredentialsProvider.create(credentials))
        .overrideConfiguration(ClientOverrideConfiguration.builder().addExecutionInterceptor(calls).build());
  }

  private void synchronous(SdkHttpClient http) throws Exception {
    KmsClient admin = client(http, daemon.principal("admin")), consumer = client(http, daemon.principal("consumer"));
    var provisioner = client(http, daemon.principal("provisioner"));
    var seen = new HashSet<SdkBytes>();
    for (int number = 0; number < AT_ONCE; number++) {
      var made = provisioner.generateDataKeyWithoutPlaintext(ask -> ask.keyId(ALIAS).keySpec("AES_256").encryptionContext(CONTEXT));
      hold(made.ciphertextBlob().asByteArray().length == 96, made.toString());
      var opened = consumer.decrypt(ask -> ask.ciphertextBlob(made.ciphertextBlob()).encryptionContext(CONTEXT));
      hold(opened.plaintext().asByteArray().length == 32 && opened.keyId().equals(made.keyId()), "not a data key of " + made.keyId());
      seen.add(opened.plaintext());
      refused(InvalidCiphertextException.class, () -> consumer.decrypt(ask -> ask.ciphertextBlob(made.ciphertextBlob())));
    }
    hold(seen.size() == AT_ONCE, "a data key came twice");
    var made = admin.generateDataKey(ask -> ask.keyId(ALIAS).numberOfBytes(64));
    hold(consumer.decrypt(ask -> ask.ciphertextBlob(made.ciphertextBlob())).plaintext().equals(made.plaintext()), "the data key is another one");
    grants(admin, provisioner);
    signatures(admin);
    refusals(http, admin);
    var told = told(StsClient.builder().httpClient(http), daemon.principal("consumer")).build().getCallerIdentity();
    hold(told.arn().equals(daemon.principal("consumer").arn()) && told.account().equals(daemon.account()), told.toString());
    var stranger = told(StsClient.builder().httpClient(http), daemon.principal("consumer").withSecret("another")).build();
    calls.fail("SignatureDoesNotMatch", stranger::getCallerIdentity);
  }

  private KmsClient client(SdkHttpClient http, Principal who) {
    return told(KmsClient.builder().httpClient(http), who).build();
  }

  /** Grants let the provisioner open what is bound to their context, and are listed page by page. */
  private void grants(KmsClient admin, KmsClient provisioner) {
    var key = admin.createKey().keyMetadata().keyId();
    var blob = admin.encrypt(ask -> ask.keyId(key).plaintext(SdkBytes.fromUtf8String("text")).encryptionContext(CONTEXT)).ciphertextBlob();
    var ids = new ArrayList<String>();
    for (int number = 0; number < 5; number++) {
      ids.add(admin.createGrant(ask -> ask.keyId(key).granteePrincipal(daemon.principal("provisioner").arn())
          .operations(GrantOperation.DECRYPT).constraints(on -> on.encryptionContextEquals(CONTEXT))).grantId());
    }
    var opened = provisioner.decrypt(ask -> ask.ciphertextBlob(blob).encryptionContext(CONTEXT)).plaintext().asUtf8String();
    hold(opened.equals("text"), opened);
    var listed = admin.listGrantsPaginator(ask -> ask.keyId(key).limit(2)).grants().stream().map(GrantListEntry::grantId).toList();
    hold(new HashSet<>(listed).equals(new HashSet<>(ids)) && listed.size() == ids.size(), listed.toString());
    ids.forEach(id -> admin.revokeGrant(ask -> ask.keyId(key).grantId(id)));
    calls.fail("AccessDeniedException", () -> provisioner.decrypt(ask -> ask.ciphertextBlob(blob).encryptionContext(CONTEXT)));
  }

  /** A signature that the JDK verifies with the key that was exported. */
  private void signatures(KmsClient admin) throws Exception {
    var key = admin.createKey(ask -> ask.keySpec(KeySpec.RSA_2048).keyUsage("SIGN_VERIFY")).keyMetadata().keyId();
    var text = SdkBytes.fromUtf8String("what a container holds");
    var algorithm = SigningAlgorithmSpec.RSASSA_PKCS1_V1_5_SHA_256;
    var made = admin.sign(ask -> ask.keyId(key).message(text).signingAlgorithm(algorithm)).signature();
    var verifier = Signature.getInstance("SHA256withRSA");
    var exported = admin.getPublicKey(ask -> ask.keyId(key)).publicKey().asByteArray();
    verifier.initVerify(KeyFactory.getInstance("RSA").generatePublic(new X509EncodedKeySpec(exported)));
    verifier.update(text.asByteArray());
    hold(verifier.verify(made.asByteArray()), "not a signature of the text");
    hold(admin.verify(ask -> ask.keyId(key).message(text).signature(made).signingAlgorithm(algorithm)).signatureValid(), "it does not verify");
    refused(KmsInvalidSignatureException.class,
        () -> admin.verify(ask -> ask.keyId(key).message(SdkBytes.fromUtf8String("another")).signature(made).signingAlgorithm(algorithm)));
  }

  private void refusals(SdkHttpClient http, KmsClient admin) {
    refused(NotFoundException.class, () -> admin.describeKey(ask -> ask.keyId("alias/absent")));
    var key = admin.createKey().keyMetadata().keyId();
    admin.disableKey(ask -> ask.keyId(key));
    refused(DisabledException.class, () -> admin.generateDataKeyWithoutPlaintext(ask -> ask.keyId(key).keySpec("AES_128")));
    var forger = client(http, daemon.principal("admin").withSecret("another"));
    calls.fail("InvalidSignatureException", forger::listKeys);
    var keys = admin.listKeysPaginator(ask -> ask.limit(1)).keys().stream().map(entry -> entry.keyId()).toList();
    hold(keys.contains(key) && new HashSet<>(keys).size() == keys.size(), keys.toString());
  }

  /** Many calls at once on each client, and a paginator that publishes. */
  private void asynchronous(SdkAsyncHttpClient http) {
    KmsAsyncClient provisioner = asynchronous(http, "provisioner"), consumer = asynchronous(http, "consumer"), admin = asynchronous(http, "admin");
    var pending = IntStream.range(0, AT_ONCE).mapToObj(number -> {
      var context = Map.of("container", "container-" + number);
      var minted = provisioner.generateDataKeyWithoutPlaintext(ask -> ask.keyId(ALIAS).keySpec("AES_256").encryptionContext(context));
      return minted.thenCompose(made -> consumer.decrypt(ask -> ask.ciphertextBlob(made.ciphertextBlob()).encryptionContext(context)));
    }).toList();
    CompletableFuture.allOf(pending.toArray(CompletableFuture[]::new)).join();
    var keys = new HashSet<>(pending.stream().map(opened -> opened.join().plaintext()).toList());
    hold(keys.size() == AT_ONCE && keys.stream().allMatch(key -> key.asByteArray().length == 32), "a data key came twice");
    var made = admin.generateDataKey(ask -> ask.keyId(ALIAS).numberOfBytes(64)).join();
    var opened = consumer.decrypt(ask -> ask.ciphertextBlob(made.ciphertextBlob())).join();
    hold(opened.plaintext().equals(made.plaintext()), "the data key is another one");
    refused(InvalidCiphertextException.class,
        () -> consumer.decrypt(ask -> ask.ciphertextBlob(made.ciphertextBlob()).encryptionContext(CONTEXT)).join());
    calls.fail("AccessDeniedException", () -> provisioner.decrypt(ask -> ask.ciphertextBlob(made.ciphertextBlob())).join());
    var aliases = new ArrayList<String>();
    admin.listAliasesPaginator(ask -> ask.limit(1)).aliases().subscribe(entry -> aliases.add(entry.aliasName())).join();
    hold(aliases.contains(ALIAS) && aliases.contains("alias/next"), aliases.toString());
  }

  private KmsAsyncClient asynchronous(SdkAsyncHttpClient http, String role) {
    return told(KmsAsyncClient.builder().httpClient(http), daemon.principal(role)).build();
  }
}
