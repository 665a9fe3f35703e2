"""The runbook's commands for importing key material again really wrap it: unwrapped by another program, it is the same."""

import base64
import json
import re
import subprocess
from pathlib import Path

import pytest
from botocore.session import Session
from cryptography.hazmat.primitives import hashes, keywrap, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

ROOT = Path(__file__).parents[2]
OAEP = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
# What stands in for the AWS CLI: it hands out the parameters and takes no notice of the import.
AWS = 'aws() { [ "$2" != get-parameters-for-import ] || cat parameters-of-kms.json; }'


def pkcs8(key):
    return key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def commands(algorithm: str) -> str:
    blocks = re.findall(r"```\n(.*?)```", (ROOT / "docs/runbook.md").read_text(), re.DOTALL)
    (block,) = (block for block in blocks if f"--wrapping-algorithm {algorithm} " in block)
    return block


def unwrapped_over_aes(wrapping_key, wrapped: bytes) -> bytes:
    size = wrapping_key.key_size // 8
    return keywrap.aes_key_unwrap_with_padding(wrapping_key.decrypt(wrapped[:size], OAEP), wrapped[size:])


@pytest.mark.parametrize(
    ("algorithm", "material", "unwrap"),
    [
        ("RSAES_OAEP_SHA_256", bytes(range(32)), lambda key, wrapped: key.decrypt(wrapped, OAEP)),
        ("RSAES_OAEP_SHA_256", pkcs8(ec.generate_private_key(ec.SECP521R1())), lambda key, wrapped: key.decrypt(wrapped, OAEP)),
        ("RSA_AES_KEY_WRAP_SHA_256", pkcs8(rsa.generate_private_key(65537, 4096)), unwrapped_over_aes),
    ],
    ids=["symmetric", "ECC_NIST_P521", "RSA_4096"],
)
def test_commands_wrap_the_material(tmp_path, algorithm, material, unwrap):
    wrapping_key = rsa.generate_private_key(65537, 4096)
    public = wrapping_key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    parameters = {"PublicKey": base64.b64encode(public).decode(), "ImportToken": base64.b64encode(b"token").decode()}
    (tmp_path / "parameters-of-kms.json").write_text(json.dumps(parameters))
    (tmp_path / "KeyMaterial.bin").write_bytes(material)
    subprocess.run(["bash", "-euc", f"REGION=r KEY=k\n{AWS}\n{commands(algorithm)}"], cwd=tmp_path, check=True)
    assert unwrap(wrapping_key, (tmp_path / "EncryptedKeyMaterial.bin").read_bytes()) == material
    assert (tmp_path / "ImportToken.bin").read_bytes() == b"token"


def test_algorithms_and_specs_are_kms_own():
    """By botocore's model of KMS."""
    model = Session().get_service_model("kms").operation_model("GetParametersForImport").input_shape.members
    source = (ROOT / "src/render/remedy.rs").read_text()
    for field, member in (("algorithm", "WrappingAlgorithm"), ("key_spec", "WrappingKeySpec")):
        used = set(re.findall(rf'\b{field}: "(\w+)"', source))
        assert used and used <= set(model[member].enum)
