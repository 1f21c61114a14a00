package clients;

import static clients.Daemon.hold;

import com.amazonaws.encryptionsdk.AwsCrypto;
import com.amazonaws.encryptionsdk.kmssdkv2.AwsKmsMrkAwareMasterKeyProvider;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import software.amazon.awssdk.auth.credentials.AwsBasicCredentials;
import software.amazon.awssdk.auth.credentials.StaticCredentialsProvider;
import software.amazon.awssdk.regions.Region;
import software.amazon.awssdk.services.kms.KmsClient;
import software.amazon.cryptography.materialproviders.IKeyring;
import software.amazon.cryptography.materialproviders.MaterialProviders;
import software.amazon.cryptography.materialproviders.model.CreateAwsKmsKeyringInput;
import software.amazon.cryptography.materialproviders.model.MaterialProvidersConfig;

/**
 * The AWS Encryption SDK for Java: opens what the one for Python wrote into a folder, and writes
 * messages there that it opens. Run by java_clients.py.
 */
final class EncryptionSdk {
  private static final Path FOLDER = Path.of(System.getenv("MESSAGES"));
  private static final String KEY_ARN = System.getenv("KEY_ARN");
  private static final Map<String, String> CONTEXT = Map.of("tenant", "Zoë");

  private final Daemon daemon = Daemon.find();
  private final Calls calls = new Calls(daemon);
  private final AwsCrypto crypto = AwsCrypto.standard();

  public static void main(String[] arguments) throws Exception {
    new EncryptionSdk().run();
  }

  private void run() throws Exception {
    var text = Files.readAllBytes(FOLDER.resolve("text"));
    var read = crypto.decryptData(keyring("consumer"), Files.readAllBytes(FOLDER.resolve("python")));
    hold(Arrays.equals(read.getResult(), text), "the message of Python has another text");
    hold(read.getEncryptionContext().entrySet().containsAll(CONTEXT.entrySet()), read.getEncryptionContext().toString());

    var message = crypto.encryptData(keyring("admin"), text, CONTEXT).getResult();
    Files.write(FOLDER.resolve("java-keyring"), message);
    Files.write(FOLDER.resolve("java-provider"), crypto.encryptData(provider("admin"), text, CONTEXT).getResult());
    hold(Arrays.equals(crypto.decryptData(provider("consumer"), message).getResult(), text), "the provider opens another text");
    calls.fail("AccessDeniedException", () -> crypto.decryptData(keyring("provisioner"), message));
    calls.fail("AccessDeniedException", () -> crypto.encryptData(keyring("consumer"), text, CONTEXT));
    var changed = message.clone();
    changed[changed.length / 2] ^= 1;
    calls.fail(null, () -> crypto.decryptData(keyring("consumer"), changed));
    daemon.report("AWS Encryption SDK for Java", version());
  }

  private KmsClient client(String role) {
    var who = daemon.principal(role);
    var credentials = AwsBasicCredentials.create(who.accessKeyId(), who.secretAccessKey());
    return KmsClient.builder().endpointOverride(daemon.endpoint()).region(Region.of(daemon.region()))
        .credentialsProvider(StaticCredentialsProvider.create(credentials))
        .overrideConfiguration(on -> on.addExecutionInterceptor(calls)).build();
  }

  private IKeyring keyring(String role) {
    var providers = MaterialProviders.builder().MaterialProvidersConfig(MaterialProvidersConfig.builder().build()).build();
    return providers.CreateAwsKmsKeyring(CreateAwsKmsKeyringInput.builder().kmsKeyId(KEY_ARN).kmsClient(client(role)).build());
  }

  private AwsKmsMrkAwareMasterKeyProvider provider(String role) {
    return AwsKmsMrkAwareMasterKeyProvider.builder().customRegionalClientSupplier(region -> client(role)).buildStrict(List.of(KEY_ARN));
  }

  private static String version() throws Exception {
    var told = new Properties();
    try (var file = AwsCrypto.class.getResourceAsStream("/META-INF/maven/com.amazonaws/aws-encryption-sdk-java/pom.properties")) {
      told.load(file);
    }
    return told.getProperty("version");
  }
}
