"""A made-up CloudTrail archive, in the layout and the proportions that S3 has them.

The same seed gives the same bytes. About two records in ten thousand are hits; others come close to one: refused calls,
another service's calls of the same name, texts that only mention a call.
"""

import gzip
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

HITS = ("ScheduleKeyDeletion", "DisableKey", "DeleteImportedKeyMaterial", "CancelKeyDeletion", "EnableKey")
"""The calls that count: of KMS, and not failed. `keyguard` reports them all without being asked to."""
HIT_RATE = 0.0002
RECORDS_A_FILE = 25_000
ACCOUNTS = ("111122223333", "123456789012", "444455556666")
REGIONS = ("eu-west-1", "us-east-1")
START = datetime(2026, 11, 21, tzinfo=UTC)


@dataclass(frozen=True)
class Archive:
    """What was written."""

    folder: Path
    files: tuple[Path, ...]
    plain: int
    """Bytes before packing."""
    packed: int
    records: int
    hits: int


def write(folder: Path, megabytes: int, seed: int) -> Archive:
    """Write files until there are so many megabytes, unpacked."""
    random = Random(seed)
    files: list[Path] = []
    plain = packed = records = hits = 0
    while plain < megabytes * 1_000_000:
        number = len(files)
        account, region = ACCOUNTS[number % len(ACCOUNTS)], REGIONS[number % len(REGIONS)]
        time = START + timedelta(minutes=5 * number)
        made = [_record(random, account, region, time + timedelta(milliseconds=10 * i)) for i in range(RECORDS_A_FILE)]
        # No blanks, as CloudTrail writes it.
        text = json.dumps({"Records": made}, separators=(",", ":")).encode()
        data = gzip.compress(text, compresslevel=6, mtime=0)
        path = folder / "AWSLogs" / account / "CloudTrail" / region / f"{time:%Y/%m/%d}"
        path.mkdir(parents=True, exist_ok=True)
        path /= f"{account}_CloudTrail_{region}_{time:%Y%m%dT%H%MZ}_{_text(random, 16)}.json.gz"
        path.write_bytes(data)
        files.append(path)
        plain, packed, records = plain + len(text), packed + len(data), records + len(made)
        hits += sum(is_hit(record) for record in made)
    return Archive(folder, tuple(sorted(files)), plain, packed, records, hits)


def is_hit(record: dict[str, Any]) -> bool:
    """The condition that every peer has to apply."""
    return (
        record.get("eventSource") == "kms.amazonaws.com"
        and record.get("eventName") in HITS
        and record.get("errorCode") is None
        and record.get("errorMessage") is None
    )


def _text(random: Random, length: int) -> str:
    return "".join(random.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789", k=length))


def _uuid(random: Random) -> str:
    digits = f"{random.getrandbits(128):032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _identity(random: Random, account: str, time: datetime) -> dict[str, Any]:
    role = random.choice(("payments-api", "deploy", "nightly-backup", "log-shipper", "platform-admin"))
    unique = f"AROA{random.randrange(10**12):012d}EXAMPL"
    session = f"{role}-{random.randrange(500)}"
    return {
        "type": "AssumedRole",
        "principalId": f"{unique}:{session}",
        "arn": f"arn:aws:sts::{account}:assumed-role/{role}/{session}",
        "accountId": account,
        "accessKeyId": f"ASIA{random.randrange(10**12):012d}EXAM",
        "sessionContext": {
            "sessionIssuer": {
                "type": "Role",
                "principalId": unique,
                "arn": f"arn:aws:iam::{account}:role/{role}",
                "accountId": account,
                "userName": role,
            },
            "attributes": {"creationDate": f"{time - timedelta(minutes=20):%Y-%m-%dT%H:%M:%SZ}", "mfaAuthenticated": "false"},
        },
    }


AGENTS = (
    "aws-sdk-java/2.31.9 md/io#sync md/http#Apache ua/2.1 os/Linux#6.1 lang/java#21.0.7 md/OpenJDK_64-Bit_Server_VM "
    "md/vendor#Amazon.com_Inc. exec-env/AWS_ECS_FARGATE cfg/retry-mode#standard m/D,N",
    "Boto3/1.40.12 md/Botocore#1.40.12 ua/2.1 os/linux#6.1 md/arch#x86_64 lang/python#3.13 cfg/retry-mode#legacy",
    "aws-cli/2.31.0 md/awscrt#0.27.6 ua/2.1 os/linux#6.8 md/arch#x86_64 lang/python#3.13.7 md/command#s3.cp",
    "[S3Console/0.4, aws-internal/3 aws-sdk-java/1.12.750]",
)


def _record(random: Random, account: str, region: str, time: datetime) -> dict[str, Any]:
    key = f"arn:aws:kms:{region}:{account}:key/{random.getrandbits(20):08x}-0000-4000-8000-000000000000"
    source, name, read_only, request, answer, extra = _call(random, account, region, key)
    return {
        "eventVersion": "1.11",
        "userIdentity": _identity(random, account, time),
        "eventTime": f"{time:%Y-%m-%dT%H:%M:%SZ}",
        "eventSource": f"{source}.amazonaws.com",
        "eventName": name,
        "awsRegion": region,
        "sourceIPAddress": f"198.51.100.{random.randrange(256)}",
        "userAgent": random.choice(AGENTS),
        "requestParameters": request,
        "responseElements": answer,
        "requestID": _uuid(random),
        "eventID": _uuid(random),
        "readOnly": read_only,
        "eventType": "AwsApiCall",
        "managementEvent": source != "s3",
        "recipientAccountId": account,
        "eventCategory": "Management" if source != "s3" else "Data",
        **extra,
        "tlsDetails": {
            "tlsVersion": "TLSv1.3",
            "cipherSuite": "TLS_AES_128_GCM_SHA256",
            "clientProvidedHostHeader": f"{source}.{region}.amazonaws.com",
        },
    }


Call = tuple[str, str, bool, dict[str, Any] | None, dict[str, Any] | None, dict[str, Any]]


def _call(random: Random, account: str, region: str, key: str) -> Call:
    """Service, call, whether it only reads, what was asked, what was answered, and further fields."""
    key_resource = {"resources": [{"accountId": account, "type": "AWS::KMS::Key", "ARN": key}]}
    place = random.random()
    if place < HIT_RATE:
        name = random.choice(HITS)
        request = {"keyId": key} | ({"pendingWindowInDays": 7} if name == "ScheduleKeyDeletion" else {})
        return "kms", name, False, request, {"keyId": key}, key_resource
    if place < HIT_RATE * 2:
        refused = {"errorCode": "AccessDenied", "errorMessage": f"not authorized to perform kms:DisableKey on {key}"}
        return "kms", "DisableKey", False, None, None, refused | key_resource
    if place < HIT_RATE * 3:
        return "sms-voice", "EnableKey", False, {"note": 'kms.amazonaws.com "DisableKey"'}, None, {}
    match random.choices(("kms", "s3", "sts", "ec2", "logs", "ssm", "describe"), (30, 30, 15, 12, 8, 4, 1))[0]:
        case "kms":
            context = {"aws:s3:arn": f"arn:aws:s3:::data-{random.randrange(40)}/part-{random.randrange(10**6)}.parquet"}
            request = {"encryptionContext": context, "encryptionAlgorithm": "SYMMETRIC_DEFAULT", "keyId": key}
            return "kms", random.choice(("Decrypt", "GenerateDataKey")), True, request, None, key_resource
        case "s3":
            bucket = f"data-{random.randrange(40)}"
            item = f"year=2026/month=11/day=21/part-{random.randrange(10**6)}.parquet"
            request = {"bucketName": bucket, "Host": f"{bucket}.s3.{region}.amazonaws.com", "key": item}
            extra = {
                "additionalEventData": {
                    "SignatureVersion": "SigV4",
                    "CipherSuite": "TLS_AES_128_GCM_SHA256",
                    "bytesTransferredIn": 0,
                    "AuthenticationMethod": "AuthHeader",
                    "x-amz-id-2": _text(random, 76),
                    "bytesTransferredOut": random.randrange(10**7),
                },
                "resources": [
                    {"type": "AWS::S3::Object", "ARN": f"arn:aws:s3:::{bucket}/{item}"},
                    {"accountId": account, "type": "AWS::S3::Bucket", "ARN": f"arn:aws:s3:::{bucket}"},
                ],
            }
            return "s3", "GetObject", True, request, None, extra
        case "sts":
            role = f"arn:aws:iam::{account}:role/payments-api"
            request = {"roleArn": role, "roleSessionName": f"payments-api-{random.randrange(500)}"}
            answer = {
                "credentials": {"accessKeyId": f"ASIA{random.randrange(10**12):012d}EXAM", "sessionToken": _text(random, 200)},
                "assumedRoleUser": {"assumedRoleId": "AROA000000000000EXAMPL:a", "arn": f"{role}/a"},
            }
            return "sts", "AssumeRole", True, request, answer, {}
        case "ec2":
            wanted = [{"name": "tag:Name", "valueSet": {"items": [{"value": f"web-{random.randrange(100)}"}]}}]
            request = {"maxResults": 1000, "instancesSet": {}, "filterSet": {"items": wanted}}
            return "ec2", "DescribeInstances", True, request, None, {}
        case "logs":
            request = {"logGroupName": "/aws/lambda/payments", "logStreamName": f"2026/11/21/[$LATEST]{_text(random, 32)}"}
            return "logs", "CreateLogStream", False, request, None, {"apiVersion": "20140328"}
        case "ssm":
            # Escapes, as in the JSON and the scripts that people pass around.
            document = {"name": "AWS-RunShellScript", "parameters": '{"commands":["echo \\"up\\"","df -h /"]}'}
            return "ssm", "SendCommand", False, document, None, {}
        case _:
            return "kms", "DescribeKey", True, {"keyId": key}, None, key_resource
