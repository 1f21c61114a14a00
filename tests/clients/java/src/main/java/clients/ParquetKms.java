package clients;

import java.util.Base64;
import java.util.Map;
import org.apache.hadoop.conf.Configuration;
import org.apache.parquet.crypto.KeyAccessDeniedException;
import org.apache.parquet.crypto.keytools.KmsClient;
import software.amazon.awssdk.core.SdkBytes;
import software.amazon.awssdk.http.urlconnection.UrlConnectionHttpClient;
import software.amazon.awssdk.services.kms.model.KmsException;

/**
 * Wraps the keys of encrypted Parquet files, for Spark and whatever else reads them in Java. Files
 * name the KMS key; endpoint, Region and credentials are those of the environment. Run by
 * parquet_spark.py.
 */
public final class ParquetKms implements KmsClient {
  private static final Map<String, String> CONTEXT = Map.of("dataset", "containers");

  private software.amazon.awssdk.services.kms.KmsClient kms;

  @Override
  public void initialize(Configuration configuration, String instanceId, String instanceUrl, String accessToken) {
    kms = software.amazon.awssdk.services.kms.KmsClient.builder().httpClient(UrlConnectionHttpClient.create()).build();
  }

  @Override
  public String wrapKey(byte[] key, String masterKeyId) {
    try {
      var sealed = kms.encrypt(ask -> ask.keyId(masterKeyId).plaintext(SdkBytes.fromByteArray(key)).encryptionContext(CONTEXT));
      return Base64.getEncoder().encodeToString(sealed.ciphertextBlob().asByteArray());
    } catch (KmsException refused) {
      throw new KeyAccessDeniedException(masterKeyId, refused);
    }
  }

  @Override
  public byte[] unwrapKey(String wrapped, String masterKeyId) {
    var blob = SdkBytes.fromByteArray(Base64.getDecoder().decode(wrapped));
    try {
      var opened = kms.decrypt(ask -> ask.keyId(masterKeyId).ciphertextBlob(blob).encryptionContext(CONTEXT));
      return opened.plaintext().asByteArray();
    } catch (KmsException refused) {
      throw new KeyAccessDeniedException(masterKeyId, refused);
    }
  }
}
