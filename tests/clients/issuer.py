"""Issuers of OpenID Connect on this machine, with discovery and keys over TLS, and their tokens, which are as Kubernetes makes those of its service accounts."""

import base64
import contextlib
import hashlib
import hmac
import json
import ssl
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

AUDIENCE = "sts.amazonaws.com"
SUBJECT = "system:serviceaccount:payments:minter"
# What clusters give a pod's token: an hour.
TOKEN_SECONDS = 3600
RSA_BITS = 2048
CURVES = {"ES256": ec.SECP256R1, "ES384": ec.SECP384R1, "ES512": ec.SECP521R1}
# Every token that was made, so that a step can look for them where they must not be.
MADE: list[str] = []
ALGORITHMS = ["RS256", "RS384", "RS512", *CURVES, "EdDSA"]


class Key:
    """A key that tokens are signed with."""

    def __init__(self, algorithm: str):
        self.algorithm, self.id = algorithm, uuid.uuid4().hex
        if algorithm == "EdDSA":
            self.private = ed25519.Ed25519PrivateKey.generate()
        elif algorithm in CURVES:
            self.private = ec.generate_private_key(CURVES[algorithm]())
        else:
            self.private = rsa.generate_private_key(65537, RSA_BITS)

    def public(self) -> dict:
        """The public key, as a key set has it."""
        told = jwt.get_algorithm_by_name(self.algorithm).to_jwk(self.private.public_key(), as_dict=True)
        return told | {"kid": self.id, "use": "sig", "alg": self.algorithm}

    def pem(self) -> bytes:
        """The public key as a file."""
        return self.private.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)

    def sign(self, claims: dict, **header) -> str:
        MADE.append(jwt.encode(claims, self.private, self.algorithm, headers={"kid": self.id, **header}))
        return MADE[-1]


class Issuer:
    """One issuer: its name below a server, and its keys."""

    def __init__(self, server: str, name: str, algorithm: str = "RS256"):
        self.url, self.name = f"{server}/{name}", name
        self.keys = [Key(algorithm)]
        # What its server asks for before it shows the keys.
        self.bearer: str | None = None

    @property
    def provider(self) -> str:
        """What conditions and ARNs call it."""
        return self.url.removeprefix("https://")

    def rotate(self, algorithm: str = "RS256") -> None:
        """Puts a new key in the place of all."""
        self.keys = [Key(algorithm)]

    def key_set(self) -> str:
        return json.dumps({"keys": [key.public() for key in self.keys]})

    def claims(self, **changes) -> dict:
        """The claims of a pod's token; a change to `None` leaves a claim out."""
        now = int(time.time())
        _, _, namespace, account = SUBJECT.split(":")
        pod = {
            "namespace": namespace, "node": {"name": "node-1", "uid": str(uuid.uuid4())},
            "pod": {"name": f"{account}-7d4b9", "uid": str(uuid.uuid4())}, "serviceaccount": {"name": account, "uid": str(uuid.uuid4())},
        }
        claims = {
            "aud": [AUDIENCE], "exp": now + TOKEN_SECONDS, "iat": now, "iss": self.url, "jti": str(uuid.uuid4()), "kubernetes.io": pod,
            "nbf": now, "sub": SUBJECT,
        } | changes
        return {name: value for name, value in claims.items() if value is not None}

    def token(self, **changes) -> str:
        return self.keys[0].sign(self.claims(**changes))


def by_hand(header: dict, claims: dict, secret: bytes | None) -> str:
    """A token that no library makes: without a signature, or with the HMAC of any secret."""
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, claims)]
    mac = b"" if secret is None else hmac.digest(secret, b".".join(parts), hashlib.sha256)
    MADE.append(b".".join([*parts, base64.urlsafe_b64encode(mac).rstrip(b"=")]).decode())
    return MADE[-1]


class Server:
    """Serves issuers over TLS. Its port is known from the beginning; it answers from `start` on."""

    def __init__(self, certificate: tuple[str, str]):
        self.issuers: dict[str, Issuer] = {}
        issuers = self.issuers

        class Handler(BaseHTTPRequestHandler):
            """Answers `/<name>/.well-known/openid-configuration` and `/<name>/keys`."""

            def do_GET(self) -> None:
                _, name, place = self.path.split("/", 2)
                issuer = issuers[name]
                asked = None if issuer.bearer is None else f"Bearer {issuer.bearer}"
                documents = {
                    ".well-known/openid-configuration": json.dumps({
                        "issuer": issuer.url, "jwks_uri": f"{issuer.url}/keys", "response_types_supported": ["id_token"],
                        "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": [key.algorithm for key in issuer.keys],
                    }),
                    "keys": issuer.key_set(),
                }
                body = documents[place].encode()
                self.send_response(200 if self.headers["Authorization"] == asked else 401)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_) -> None:
                """What it answers shows in what the daemon does."""

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        # Bound and not listening: connections are refused.
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler, bind_and_activate=False)
        self.server.server_bind()
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self.server.server_port}"

    def issuer(self, name: str, algorithm: str = "RS256") -> Issuer:
        self.issuers[name] = Issuer(self.url, name, algorithm)
        return self.issuers[name]

    def start(self) -> None:
        self.server.server_activate()
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @contextlib.contextmanager
    def started(self):
        self.start()
        try:
            yield self
        finally:
            self.server.shutdown()
            self.server.server_close()
