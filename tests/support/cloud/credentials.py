"""A throw-away service account: its key file, the tokens it gets here, and the check of what callers show."""

from __future__ import annotations

import json
import secrets
from pathlib import Path

from google.auth import exceptions, jwt

from cloud.errors import Refused, invalid
from cloud.http import Request

AUDIENCE = "https://oauth2.googleapis.com/token"
"""What the client names in its assertions, whatever the key file's `token_uri`."""


class Credentials:
    """One service account whose key lies in a file; only its tokens are taken."""

    def __init__(self, file: Path, *, project: str, url: str) -> None:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import rsa

        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        self._public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self.email = f"tester@{project}.iam.gserviceaccount.com"
        self.file = file
        self._known: set[str] = set()
        content = {
            "type": "service_account",
            "project_id": project,
            "private_key_id": secrets.token_hex(20),
            "private_key": private.decode(),
            "client_email": self.email,
            "client_id": "100000000000000000000",
            "token_uri": f"{url}/token",
        }
        file.write_text(json.dumps(content), encoding="utf-8")

    def give_token(self, request: Request) -> dict[str, object]:
        """The answer of the token endpoint to a signed assertion."""
        fields = Request("POST", "", request.content.decode(), {}, b"").params
        if fields.get("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer":
            raise invalid(f"unsupported_grant_type: {fields.get('grant_type')}")
        claims = self._read(fields.get("assertion", ""))
        if claims.get("aud") != AUDIENCE:
            raise invalid(f"invalid_grant: audience {claims.get('aud')}")
        token = f"ya29.{secrets.token_urlsafe(24)}"
        self._known.add(token)
        return {"access_token": token, "expires_in": 3599, "token_type": "Bearer"}

    def check(self, request: Request) -> None:
        """Refuses a request that shows no token of this account, neither a given nor a self-signed one."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Refused(
                "UNAUTHENTICATED",
                "Request is missing required authentication credential. Expected OAuth 2 access token "
                "(in tests: set GOOGLE_APPLICATION_CREDENTIALS as in cloud.environment)",
            )
        if token not in self._known:
            self._read(token)
            self._known.add(token)

    def _read(self, token: str) -> dict[str, object]:
        try:
            claims = dict(jwt.decode(token, certs=self._public))
        except (ValueError, exceptions.GoogleAuthError) as error:
            raise Refused("UNAUTHENTICATED", f"Request had invalid authentication credentials. {error}") from error
        if claims.get("iss") != self.email:
            raise Refused("UNAUTHENTICATED", f"Request had invalid authentication credentials: {claims.get('iss')}")
        return claims
