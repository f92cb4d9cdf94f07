# The public keys of a client that signs; and where others may have theirs.
sed -i 's|^\[api\]|[api]\njwks_hosts = ["emr.example.org"]|' "$LABORA_CONFIG"
python - <<'END'
import json
from base64 import urlsafe_b64encode
from cryptography.hazmat.primitives.asymmetric import ec
key = ec.generate_private_key(ec.SECP384R1()).public_key().public_numbers()
x, y = (urlsafe_b64encode(one.to_bytes(48, "big")).rstrip(b"=").decode() for one in (key.x, key.y))
json.dump({"keys": [{"kty": "EC", "crv": "P-384", "alg": "ES384", "kid": "1", "x": x, "y": y}]}, open("keys.json", "w"))
END
