"""boto3, the Python package and `keymill export` over TLS: a CA bundle, client certificates with and without a signature, and files that are replaced under a running daemon."""

import datetime
import ipaddress
import socket
import ssl
import subprocess
import sys
import tempfile
from pathlib import Path

import boto3
import botocore
import botocore.config
import botocore.credentials
import botocore.exceptions
import pyarrow
import pyarrow.compute
import pyarrow.dataset
from audit import records, whole
from container_list import CONTEXT as ROW_CONTEXT
from container_list import check_manifest, check_schema, export
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from daemon import ALIAS, BINARY, BLOB_BYTES, ROOT, Daemon, Tally, admin_address, refused, report, running, wait_until

sys.path.insert(0, str(ROOT / "clients" / "python"))
import keymill  # noqa: E402

CONTEXT = {"container": "over-tls"}
ROWS = 100_000
SPIFFE = "spiffe://example.org/consumer"
CONNECTION = (botocore.exceptions.SSLError, botocore.exceptions.ConnectionError, botocore.exceptions.HTTPClientError)


class Authority:
    """Issues certificates into a folder."""

    def __init__(self, folder: Path, name: str):
        self.folder = folder
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.key = ec.generate_private_key(ec.SECP256R1())
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        self.certificate = self.sign(self.name, self.key, [(x509.BasicConstraints(ca=True, path_length=None), True), (usage, True)])
        self.bundle = folder / f"{name}.pem"
        self.bundle.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def sign(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, extensions: list) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder(self.name, subject, key.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(now + datetime.timedelta(days=30))
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), False)
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(self.key, hashes.SHA256())

    def issue(self, file: str, common_name: str, purpose: x509.ObjectIdentifier, *names: x509.GeneralName) -> tuple[str, str]:
        """The paths of a certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Example"), x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        extensions = [(x509.ExtendedKeyUsage([purpose]), False)]
        if names:
            extensions.append((x509.SubjectAlternativeName(names), False))
        certificate = self.sign(subject, key, extensions)
        paths = self.folder / f"{file}.pem", self.folder / f"{file}.key"
        paths[1].touch(mode=0o600)
        private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        paths[1].write_bytes(private)
        paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return str(paths[0]), str(paths[1])

    def server(self, file: str) -> tuple[str, str]:
        return self.issue(file, "server", ExtendedKeyUsageOID.SERVER_AUTH, x509.IPAddress(ipaddress.ip_address("127.0.0.1")))

    def client(self, file: str, common_name: str, *uris: str) -> tuple[str, str]:
        names = map(x509.UniformResourceIdentifier, uris)
        return self.issue(file, common_name, ExtendedKeyUsageOID.CLIENT_AUTH, *names)


def client(mill: Daemon, bundle: Path, tally: Tally, role: str | None = None, certificate: tuple[str, str] | None = None):
    """A boto3 client that trusts `bundle`, signs as `role` or not at all, and shows `certificate`."""
    principal = mill.principal(role) if role else {}
    session = boto3.session.Session(
        aws_access_key_id=principal.get("access_key_id"),
        aws_secret_access_key=principal.get("secret_access_key"),
        region_name=mill.facts["region"],
    )
    config = botocore.config.Config(client_cert=certificate, retries={"total_max_attempts": 1})
    if role is None:
        config = config.merge(botocore.config.Config(signature_version=botocore.UNSIGNED))
    made = session.client("kms", endpoint_url=mill.endpoint, verify=str(bundle), config=config)
    made.meta.events.register("after-call.kms", tally.count)
    return made


def cannot_connect(made) -> None:
    try:
        answer = made.describe_key(KeyId=ALIAS)
    except CONNECTION:
        return
    raise AssertionError(f"answered {answer}")


def signed(mill: Daemon, bundle: Path, tally: Tally) -> bytes:
    provisioner = client(mill, bundle, tally, "provisioner")
    made = {
        provisioner.generate_data_key_without_plaintext(KeyId=ALIAS, KeySpec="AES_256", EncryptionContext=CONTEXT)["CiphertextBlob"]
        for _ in range(50)
    }
    assert len(made) == 50 and all(len(blob) == BLOB_BYTES for blob in made)
    blob = made.pop()
    opened = client(mill, bundle, tally, "consumer").decrypt(CiphertextBlob=blob, EncryptionContext=CONTEXT)
    assert len(opened["Plaintext"]) == 32
    refused("AccessDeniedException", None, provisioner.decrypt, CiphertextBlob=blob, EncryptionContext=CONTEXT)
    return blob


def by_certificate(mill: Daemon, bundle: Path, tally: Tally, clients: Authority, blob: bytes) -> None:
    consumer = clients.client("consumer", "workload", SPIFFE)
    provisioner = clients.client("provisioner", "provisioner")
    stranger = clients.client("stranger", "stranger")
    opened = client(mill, bundle, tally, certificate=consumer).decrypt(CiphertextBlob=blob, EncryptionContext=CONTEXT)
    assert len(opened["Plaintext"]) == 32
    ask = {"KeyId": ALIAS, "KeySpec": "AES_256"}
    refused("AccessDeniedException", None, client(mill, bundle, tally, certificate=consumer).generate_data_key_without_plaintext, **ask)
    client(mill, bundle, tally, certificate=provisioner).generate_data_key_without_plaintext(**ask)
    # A signature is judged by itself, whatever the certificate says.
    client(mill, bundle, tally, "provisioner", consumer).generate_data_key_without_plaintext(**ask)
    refused("AccessDeniedException", None, client(mill, bundle, tally, "consumer", provisioner).generate_data_key_without_plaintext, **ask)
    for certificate in (None, stranger):
        unsigned = client(mill, bundle, tally, certificate=certificate)
        refused("MissingAuthenticationTokenException", "Missing Authentication Token", unsigned.describe_key, KeyId=ALIAS)
    foreign = Authority(clients.folder, "foreign").client("foreign", "provisioner")
    cannot_connect(client(mill, bundle, tally, "provisioner", foreign))
    assert mill.metric("keymill_tls_handshake_failures_total", reason="certificate_invalid") == 1


def exported(mill: Daemon, bundle: Path, other: Path, tally: Tally, folder: Path) -> int:
    """`keymill export` as the provisioner, first where it must be refused; returns how many ended as they should."""
    signs, out, refusals = mill.credentials("provisioner"), folder / "containers", 0
    elsewhere = mill.endpoint.replace("127.0.0.1", "localhost")
    trusts, wrongly = {"AWS_CA_BUNDLE": str(bundle)}, {"AWS_CA_BUNDLE": str(other)}
    untrusted = "no authority that is known here; name the PEM file of the one that issued it in AWS_CA_BUNDLE"
    for endpoint, variables, status, says in (
        (mill.endpoint, {}, 78, untrusted),
        (mill.endpoint, wrongly, 78, untrusted),
        (mill.endpoint, {"AWS_CA_BUNDLE": str(folder / "absent.pem")}, 78, "AWS_CA_BUNDLE: "),
        (elsewhere, trusts, 78, "its certificate is not for localhost"),
        (admin_address(mill.facts).replace("http:", "https:"), trusts, 78, "it does not speak TLS; name it with http://"),
        (mill.endpoint.replace("https:", "http:"), trusts, 1, "bytes that are not HTTP"),
        (mill.endpoint, trusts | mill.credentials("consumer"), 1, "AccessDeniedException"),
    ):
        refusal = export(["--endpoint", endpoint], out, ROWS, **(signs | variables))
        assert refusal.returncode == status and says in refusal.stderr, f"{endpoint}, {variables}: {refusal}"
        assert not refusal.stdout and not list(out.glob("*.parquet")), f"{endpoint}, {variables}: {refusal}"
        refusals += 1
    done = export(["--endpoint", mill.endpoint], out, ROWS, **(signs | trusts))
    assert done.returncode == 0, done
    check_schema(out)
    check_manifest(out, ROWS)
    table = pyarrow.dataset.dataset(out, format="parquet").to_table()
    assert pyarrow.compute.count_distinct(table["ciphertext_blob"]).as_py() == table.num_rows == ROWS
    consumer = client(mill, bundle, tally, "consumer")
    for row in table.slice(0, 5).to_pylist():
        assert len(consumer.decrypt(CiphertextBlob=row["ciphertext_blob"], EncryptionContext=ROW_CONTEXT)["Plaintext"]) == 32
    return refusals + 1


def python_package(mill: Daemon, bundle: Path, other: Path) -> None:
    """The Python package: signed, with the authority that it is given; another one is told at once."""
    principal = mill.principal("provisioner")
    credentials = botocore.credentials.Credentials(principal["access_key_id"], principal["secret_access_key"])
    for trusted in (bundle, other):
        with keymill.Client(mill.endpoint, credentials, mill.facts["region"], str(trusted)) as client:
            try:
                assert keymill.export(10, key=ALIAS, client=client).num_rows == 10 and trusted == bundle
            except keymill.KeymillError as error:
                assert error.code == "Untrusted" and trusted == other, error


def versions(mill: Daemon, bundle: Path) -> None:
    host, port = mill.endpoint.removeprefix("https://").split(":")
    for version, spoken in ((ssl.TLSVersion.TLSv1_2, False), (ssl.TLSVersion.TLSv1_3, True)):
        context = ssl.create_default_context(cafile=bundle)
        context.minimum_version = context.maximum_version = version
        try:
            with socket.create_connection((host, int(port))) as raw, context.wrap_socket(raw, server_hostname=host) as wrapped:
                assert spoken and wrapped.version() == "TLSv1.3", wrapped.version()
        except ssl.SSLError:
            assert not spoken, version


def replaced(mill: Daemon, bundle: Path, tally: Tally, folder: Path) -> None:
    """New files are in force by and by, without a restart; broken ones never."""
    (folder / "server.pem").write_text("broken")
    wait_until(lambda: mill.metric("keymill_tls_reload_failures_total") > 0, 30, "the broken file was not noticed")
    client(mill, bundle, tally, "provisioner").describe_key(KeyId=ALIAS)
    successor = Authority(folder, "successor")
    successor.server("server")

    def answers() -> bool:
        try:
            return "KeyMetadata" in client(mill, successor.bundle, tally, "provisioner").describe_key(KeyId=ALIAS)
        except CONNECTION:
            return False

    wait_until(answers, 30, "the new certificate was not taken")
    cannot_connect(client(mill, bundle, tally, "provisioner"))


def recorded(mill: Daemon) -> None:
    """After the daemon has ended: each call over TLS says so in the audit log, and no other one does; the log is sound with both."""
    host = mill.endpoint.removeprefix("https://")
    found = records(mill.state / "audit")
    over_tcp = [record for record in found if record["sourceIPAddress"] == "127.0.0.1"]
    others = [record for record in found if record not in over_tcp]
    assert len(over_tcp) >= 50 and len(others) >= 1, (len(over_tcp), len(others))
    assert not [record for record in others if "tlsDetails" in record]
    groups, hosts = set(), set()
    for record in over_tcp:
        details = record["tlsDetails"]
        assert list(record)[-1] == "tlsDetails", record
        assert details["tlsVersion"] == "TLSv1.3" and details["cipherSuite"] in {"TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256"}, details
        groups.add(details["keyExchange"])
        hosts.add(details["clientProvidedHostHeader"])
    # This process's OpenSSL offers what it has; the command's own client is post-quantum.
    assert hosts == {host} and "X25519MLKEM768" in groups and groups <= {"X25519MLKEM768", "x25519"}, (hosts, groups)
    whole(mill)


def main() -> None:
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="keymill-tls-") as name:
        folder = Path(name)
        servers, clients = Authority(folder, "servers"), Authority(folder, "clients")
        certificate, key = servers.server("server")
        user = "arn:aws:iam::111122223333:user"
        settings = f"""
[tls]
certificate = "{certificate}"
key = "{key}"
client_ca = "{clients.bundle}"
reload_seconds = 1
[tls.clients]
"{SPIFFE}" = "{user}/consumer"
"CN=provisioner,O=Example" = "{user}/provisioner"
"""
        with running(settings=settings) as mill:
            assert mill.endpoint.startswith("https://"), mill.endpoint
            blob = signed(mill, servers.bundle, tally)
            cannot_connect(client(mill, clients.bundle, tally, "provisioner"))
            by_certificate(mill, servers.bundle, tally, clients, blob)
            exports = exported(mill, servers.bundle, clients.bundle, tally, folder)
            python_package(mill, servers.bundle, clients.bundle)
            versions(mill, servers.bundle)
            assert mill.metric("keymill_request_duration_seconds_count", transport="tls") >= 50
            replaced(mill, servers.bundle, tally, folder)
            assert mill.stop() == 0, "SIGTERM did not end the daemon cleanly"
            recorded(mill)
    report("boto3 over TLS", boto3.__version__, tally.calls)
    version = subprocess.run([BINARY, "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
    report("keymill export over TLS", version, exports)


if __name__ == "__main__":
    main()
