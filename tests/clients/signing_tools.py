"""Tools that sign with a KMS key: securesystemslib (TUF, in-toto), pgpkms and jwt-kms. Each signature is checked without Keymill."""

import base64
import json
import os
import subprocess
import tempfile
from importlib.metadata import version
from pathlib import Path

import botocore.exceptions
import pgpkms
from cryptography.hazmat.primitives.asymmetric import ec, padding, utils
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from daemon import Daemon, environment, report, running
from jwt_kms import jwk, jws
from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import SIGNER_FOR_URI_SCHEME, Signer
from securesystemslib.signer._aws_signer import AWSSigner

TEXT = "what a container holds, Zoë\n".encode() * 100


def signing_key(mill: Daemon, spec: str) -> str:
    return mill.client("admin").create_key(KeySpec=spec, KeyUsage="SIGN_VERIFY")["KeyMetadata"]["KeyId"]


def calls(mill: Daemon) -> int:
    """What the daemon has answered to these tools."""
    return int(sum(mill.metric("keymill_requests_total", operation=operation) for operation in ("Sign", "GetPublicKey")))


def tuf(mill: Daemon) -> None:
    """As python-tuf and in-toto sign: keys by id and by alias, each scheme that securesystemslib knows."""
    admin = mill.client("admin")
    SIGNER_FOR_URI_SCHEME[AWSSigner.SCHEME] = AWSSigner
    schemes = {
        "RSA_2048": ["rsassa-pss-sha256", "rsassa-pss-sha384", "rsassa-pss-sha512", "rsa-pkcs1v15-sha256", "rsa-pkcs1v15-sha512"],
        "ECC_NIST_P256": ["ecdsa-sha2-nistp256"],
        "ECC_NIST_P384": ["ecdsa-sha2-nistp384"],
    }
    for spec, names in schemes.items():
        key, alias = signing_key(mill, spec), f"alias/tuf-{spec}"
        admin.create_alias(AliasName=alias, TargetKeyId=key)
        assert AWSSigner.import_(key)[1].scheme == names[0]
        for name in names:
            for reference in (key, alias):
                uri, public = AWSSigner.import_(reference, name)
                signature = Signer.from_priv_key_uri(uri, public).sign(TEXT)
                public.verify_signature(signature, TEXT)
                try:
                    public.verify_signature(signature, TEXT + b"!")
                except UnverifiedSignatureError:
                    continue
                raise AssertionError(f"{name} verifies another text")


def pgp(mill: Daemon, folder: Path) -> None:
    """Detached signatures and the public key, which GnuPG takes. pgpkms 1.0.7 takes RSA keys alone, and of those the one called alias/PGP_KEY, whichever it is given."""
    key = signing_key(mill, "RSA_2048")
    mill.client("admin").create_alias(AliasName="alias/PGP_KEY", TargetKeyId=key)
    mill.client("admin").tag_resource(KeyId=key, Tags=[{"TagKey": "PGPName", "TagValue": "Zoe"}, {"TagKey": "PGPEmail", "TagValue": "zoe@example.org"}])
    (folder / "text").write_bytes(TEXT)
    client = mill.client("admin")
    signer = pgpkms.KmsPgpKey(key, kms_client=client)
    (folder / "key").write_bytes(signer.to_pgp(kms_client=client))
    for digest in ("sha256", "sha384", "sha512"):
        with (folder / "text").open("rb") as text:
            (folder / digest).write_bytes(signer.sign(text, hash=digest, kms_client=client))
    home = folder / "gnupg"
    home.mkdir(mode=0o700)
    gpg = ["gpg", "--batch", "--homedir", home]
    variables = environment()
    subprocess.run([*gpg, "--import", folder / "key"], env=variables, check=True, capture_output=True)
    for digest in ("sha256", "sha384", "sha512"):
        subprocess.run([*gpg, "--verify", folder / digest, folder / "text"], env=variables, check=True, capture_output=True)
    (folder / "text").write_bytes(TEXT + b"!")
    changed = subprocess.run([*gpg, "--verify", folder / "sha256", folder / "text"], env=variables, check=False, capture_output=True)
    assert changed.returncode == 1 and b"BAD signature" in changed.stderr, changed


def decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def jwt(mill: Daemon) -> None:
    """Compact tokens, checked with the key that was exported. Coordinates that begin with a zero byte are a byte short in its JWK, so the PEM is what is read."""
    client, claims = mill.client("admin"), {"sub": "container-000000000042"}
    cases = [("RSA_2048", "RS256", padding.PKCS1v15()), ("RSA_2048", "PS256", padding.PSS(padding.MGF1(SHA256()), 32)), ("ECC_NIST_P256", "ES256", None), ("ECC_NIST_P384", "ES384", None)]
    for spec, algorithm, pad in cases:
        key = jwk.Key(client, signing_key(mill, spec))
        head, payload, signature = jws.JWS(claims).add_signature(key, algorithm).serialize(compact=True).split(".")
        assert json.loads(decoded(head))["alg"] == algorithm and json.loads(decoded(payload)) == claims
        signed, made = f"{head}.{payload}".encode(), decoded(signature)
        if pad is not None:
            key.public_key.verify(made, signed, pad, SHA256())
            continue
        half = len(made) // 2
        pair = utils.encode_dss_signature(int.from_bytes(made[:half], "big"), int.from_bytes(made[half:], "big"))
        key.public_key.verify(pair, signed, ec.ECDSA(SHA256() if algorithm == "ES256" else SHA384()))
    forbidden = jwk.Key(mill.client("provisioner"), key.keyId)
    try:
        jws.JWS(claims).add_signature(forbidden, "ES384")
    except botocore.exceptions.ClientError as error:
        assert error.response["Error"]["Code"] == "AccessDeniedException", error
        return
    raise AssertionError("the provisioner signs")


def main() -> None:
    with running() as mill, tempfile.TemporaryDirectory(prefix="keymill-pgp-") as folder:
        # securesystemslib makes a client of its own.
        os.environ |= mill.credentials("admin")
        counts = [0]
        for run in (lambda: tuf(mill), lambda: pgp(mill, Path(folder)), lambda: jwt(mill)):
            run()
            counts.append(calls(mill))
    for name, before, after in zip(("securesystemslib", "pgpkms", "jwt-kms"), counts, counts[1:], strict=False):
        report(name, version(name), after - before)


if __name__ == "__main__":
    main()
